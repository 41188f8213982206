/** What has a meaning in roff, and is written as itself by these. */
const written: Readonly<Record<string, string>> = {
  "\\": "\\e",
  "-": "\\-",
  "'": "\\(aq",
  '"': "\\(dq",
  "`": "\\(ga",
  "^": "\\(ha",
  "~": "\\(ti",
};

/** Text as roff shows it, character by character; a line of it begins no request. */
export function literal(text: string): string {
  const shown = text
    .replaceAll(/[\\\-'"`^~]/g, (character) => written[character] ?? character)
    // Not every formatter is told which encoding a page has.
    .replaceAll(/[^\x20-\x7e\n]/gu, (character) => `\\[u${hex(character)}]`);
  return shown.replaceAll(/^(?=\.)/gm, "\\&");
}

function hex(character: string): string {
  return character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
}

/** A request with its arguments, each quoted: `.SH "EXIT STATUS"`. */
export function request(name: string, ...args: readonly string[]): string {
  return [`.${name}`, ...args.map((one) => `"${literal(one)}"`)].join(" ");
}

/** Lines that stay as they are, in a fixed font, indented. */
export function example(text: string): string {
  return [".RS 4", ".EX", literal(text), ".EE", ".RE"].join("\n");
}

/** A term in bold, and what is said of it, indented. */
export function item(term: string, about: string): string {
  return [".TP", request("B", term), literal(about)].join("\n");
}
