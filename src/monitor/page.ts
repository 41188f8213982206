/** What the status page shows; any text may come from a peer. */
export interface Page {
  readonly title: string;
  readonly rows: readonly (readonly [name: string, value: string])[];
  readonly tables: readonly {
    readonly head: readonly string[];
    readonly rows: readonly (readonly string[])[];
  }[];
}

/** The page as HTML, which loads nothing and is read anew every 5 s. */
export function pageOf({ title, rows, tables }: Page): Response {
  const cells = rows
    .map(([name, value]) => `<tr><th>${name}<td>${Bun.escapeHTML(value)}`)
    .join("\n");
  const html = `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>replica: ${Bun.escapeHTML(title)}</title>
<style>body{font:15px system-ui;margin:2em}th{text-align:left;padding:.2em 2em .2em 0;font-weight:600}td{padding-right:2em}</style>
<h1>replica</h1><table>
${cells}
</table>
${tables.map(tableOf).join("")}`;
  return new Response(html, {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
      "cache-control": "no-store",
    },
  });
}

function tableOf({ head, rows }: Page["tables"][number]): string {
  const line = (tag: "th" | "td", words: readonly string[]) =>
    `<tr>${words.map((word) => `<${tag}>${Bun.escapeHTML(word)}`).join("")}`;
  return `<table>
${[line("th", head), ...rows.map((row) => line("td", row))].join("\n")}
</table>
`;
}
