/** A request of a manual page, with its arguments as they show. */
export interface Request {
  readonly name: string;
  readonly args: readonly string[];
}

/** What a manual page shows, without fonts and indents. Knows the escapes that ours has, and no others. */
export function readRoff(page: string): {
  readonly requests: readonly Request[];
  readonly text: string;
  /** What stands below each .SH, by its title. */
  readonly sections: ReadonlyMap<string, string>;
} {
  const requests: Request[] = [];
  const shown: string[] = [];
  const sections = new Map<string, string[]>();
  let current = shown;
  for (const line of page.replace(/\n$/, "").split("\n")) {
    const [, name, rest = ""] = /^\.([A-Za-z]+)(?: (.*))?$/.exec(line) ?? [];
    if (name === undefined) {
      if (!line.startsWith('.\\"')) current.push(shownText(line));
      continue;
    }
    const args = Array.from(rest.matchAll(/"([^"]*)"|(\S+)/g), ([, quoted, word = ""]) =>
      shownText(quoted ?? word),
    );
    requests.push({ name, args });
    if (name === "SH") sections.set(args.join(" "), (current = []));
    else if (["B", "BR", "SS"].includes(name)) current.push(args.join(name === "BR" ? "" : " "));
  }
  const joined = new Map([...sections].map(([title, lines]) => [title, lines.join("\n")]));
  return { requests, text: [...shown, ...joined.values()].join("\n"), sections: joined };
}

const characters: Readonly<Record<string, string>> = {
  e: "\\",
  "-": "-",
  "&": "",
  "(aq": "'",
  "(dq": '"',
  "(ga": "`",
  "(ha": "^",
  "(ti": "~",
  fB: "",
  fI: "",
  fR: "",
};

function shownText(text: string): string {
  return text.replaceAll(/\\(\[u[0-9A-F]+\]|\(..|f.|.)/g, (_, escape: string) => {
    const code = /^\[u([0-9A-F]+)\]$/.exec(escape)?.[1];
    if (code !== undefined) return String.fromCodePoint(Number.parseInt(code, 16));
    const character = characters[escape];
    if (character === undefined) throw new Error(`roff has \\${escape}, which isn't known here`);
    return character;
  });
}
