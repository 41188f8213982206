import { dirname, join, normalize } from "node:path/posix";

/** A reference of a source file to another file, and its form. */
export interface Reference {
  readonly specifier: string;
  readonly how: "import" | "re-export" | "dynamic" | "worker";
}

/**
 * Returns the source with its comments blanked and the content of its strings replaced by "_", character
 * for character: positions stay, so a match can be looked up in the original.
 */
export function maskSource(source: string): string {
  return new Masker(source).run();
}

const BEFORE_A_REGEX =
  /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|void|throw|await|yield|else|do))\s*$/;

class Masker {
  readonly #source: string;
  #out = "";
  #at = 0;
  /** The number of open braces in each template literal whose `${` encloses this position. */
  readonly #templates: number[] = [];

  constructor(source: string) {
    this.#source = source;
  }

  run(): string {
    while (this.#at < this.#source.length) this.#step();
    return this.#out;
  }

  #step(): void {
    const rest = this.#source.slice(this.#at, this.#at + 2);
    const char = rest[0] ?? "";
    if (rest === "//") this.#mask(this.#find("\n", 0), " ");
    else if (rest === "/*") this.#mask(this.#find("*/", 2), " ");
    else if (char === '"' || char === "'") this.#quoted(char);
    else if (char === "`") this.#template();
    else if (char === "/" && BEFORE_A_REGEX.test(this.#out.slice(-60))) this.#regex();
    else this.#code(char);
  }

  #find(text: string, plus: number): number {
    const found = this.#source.indexOf(text, this.#at + plus);
    return found < 0 ? this.#source.length : found + plus;
  }

  #code(char: string): void {
    this.#copy();
    const depth = this.#templates.at(-1);
    if (depth === undefined) return;
    if (char === "{") this.#templates[this.#templates.length - 1] = depth + 1;
    if (char !== "}") return;
    this.#templates[this.#templates.length - 1] = depth - 1;
    if (depth > 1) return;
    this.#templates.pop();
    this.#templateText();
  }

  #copy(): void {
    this.#out += this.#source[this.#at] ?? "";
    this.#at++;
  }

  #mask(end: number, filler: string): void {
    this.#out += this.#source.slice(this.#at, end).replaceAll(/[^\n]/g, filler);
    this.#at = end;
  }

  #quoted(quote: string): void {
    this.#copy();
    let end = this.#at;
    while (end < this.#source.length && this.#source[end] !== quote) {
      if (this.#source[end] === "\n") break;
      end += this.#source[end] === "\\" ? 2 : 1;
    }
    this.#mask(end, "_");
    this.#copy();
  }

  #template(): void {
    this.#copy();
    this.#templateText();
  }

  /** Skips the text of a template, up to its end or to the next `${`, where code begins again. */
  #templateText(): void {
    let end = this.#at;
    while (end < this.#source.length && this.#source[end] !== "`") {
      if (this.#source.startsWith("${", end)) {
        this.#mask(end, "_");
        this.#copy();
        this.#copy();
        this.#templates.push(1);
        return;
      }
      end += this.#source[end] === "\\" ? 2 : 1;
    }
    this.#mask(end, "_");
    this.#copy();
  }

  #regex(): void {
    this.#copy();
    let end = this.#at;
    let inClass = false;
    for (; end < this.#source.length && this.#source[end] !== "\n"; end++) {
      const char = this.#source[end];
      if (char === "\\") end++;
      else if (char === "[") inClass = true;
      else if (char === "]") inClass = false;
      else if (char === "/" && !inClass) break;
    }
    this.#mask(end, "_");
    this.#copy();
  }
}

const REFERENCES: readonly (readonly [Reference["how"], RegExp])[] = [
  ["import", /\bimport\b[^;"'`()]*?\bfrom\s*(["'])(_*)\1/dg],
  ["re-export", /\bexport\b[^;"'`()=]*?\bfrom\s*(["'])(_*)\1/dg],
  ["import", /\bimport\s*(["'])(_*)\1/dg],
  ["dynamic", /\bimport\s*\(\s*(["'`])(_*)\1/dg],
  ["dynamic", /\brequire\s*\(\s*(["'`])(_*)\1/dg],
  ["worker", /\bnew\s+(?:Worker|URL)\s*\(\s*(["'`])(_*)\1/dg],
];

/** All imports of a source: types, re-exports, dynamic imports and workers included. */
export function scanReferences(source: string, masked = maskSource(source)): Reference[] {
  const references: Reference[] = [];
  for (const [how, pattern] of REFERENCES) {
    for (const match of masked.matchAll(pattern)) {
      const [from, to] = match.indices?.[2] ?? [0, 0];
      references.push({ specifier: source.slice(from, to), how });
    }
  }
  return references;
}

/** A relative reference as a path from the project root; `undefined` for a package. */
export function resolveReference(from: string, specifier: string): string | undefined {
  // An import of package.json: a file that is imported as text.
  if (specifier.startsWith("#browser/")) return `src/monitor/browser/${specifier.slice(9)}`;
  if (!/^\.\.?\//.test(specifier)) return undefined;
  return normalize(join(dirname(from), specifier));
}
