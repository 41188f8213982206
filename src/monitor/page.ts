import type { Headline } from "./browser/document.ts";

/** What the status page says in words; any text may come from a peer. */
export interface Page {
  readonly headline: Headline;
  /** Undefined where it is ready. */
  readonly notReady: string | undefined;
  readonly rows: readonly (readonly [name: string, value: string])[];
  readonly tables: readonly {
    readonly head: readonly string[];
    readonly rows: readonly (readonly string[])[];
  }[];
}

/** Scripts, styles and data come from here, and nothing else is loaded, sent or framed. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

/** The page as HTML: the state in words, read anew every 5 s where no script runs; else the script draws the rest. */
export function pageOf({ headline, notReady, rows, tables }: Page): Response {
  const { tone, state, text } = headline;
  const cells = rows
    .map(
      ([name, value]) => `<tr><th scope="row">${Bun.escapeHTML(name)}<td>${Bun.escapeHTML(value)}`,
    )
    .join("\n");
  const ready = notReady === undefined ? "Ready" : `Not ready: ${notReady}`;
  const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<title>replica: ${Bun.escapeHTML(state)}</title>
<link rel="icon" href="/page/icon.svg">
<link rel="stylesheet" href="/page/uplot.css">
<link rel="stylesheet" href="/page/style.css">
<script src="/page/uplot.js" defer></script>
<script type="module" src="/page/main.ts"></script>
<header>
<h1>replica</h1>
<p id="about"></p>
</header>
<main>
<section id="headline" data-tone="${tone}" aria-label="State">
<p id="state">${Bun.escapeHTML(state)}</p>
<p id="text">${Bun.escapeHTML(text)}</p>
<p id="ready" data-ready="${notReady === undefined ? "yes" : "no"}">${Bun.escapeHTML(ready)}</p>
</section>
<p id="stale" role="alert"></p>
<p id="announced" role="status" class="unseen"></p>
<div id="drawn"></div>
<details id="figures" open>
<summary>All figures</summary>
<div class="wide" tabindex="0" role="group" aria-label="All figures">
<table>
${cells}
</table>
${tables.map(tableOf).join("")}</div>
</details>
</main>
`;
  return new Response(html, {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": POLICY,
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
    },
  });
}

function tableOf({ head, rows }: Page["tables"][number]): string {
  const line = (tag: string, words: readonly string[]) =>
    `<tr>${words.map((word) => `<${tag}>${Bun.escapeHTML(word)}`).join("")}`;
  return `<table>
${[line('th scope="col"', head), ...rows.map((row) => line("td", row))].join("\n")}
</table>
`;
}
