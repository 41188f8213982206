// Ours and no package: what S3 answers is a few flat elements, and a parser that knows nothing else (no DTD, no entities
// of its own, no CDATA) has nothing to be attacked by.

/** An element: its own text, and the elements in it, in their order. */
export interface XmlElement {
  readonly name: string;
  readonly text: string;
  readonly children: readonly XmlElement[];
}

/** Deeper than any answer of S3. */
const MAX_DEPTH = 16;

const ENTITIES: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
};

/** One tag, or the declaration before the root; attributes say nothing here. */
const TAG = /<(?:\?[^<>]*\?|(\/?)([A-Za-z_][\w.-]*)(?:\s[^<>]*?)?(\/?))>/y;

/**
 * Parses the XML of an S3 answer.
 * @returns its root; undefined where it is anything else than elements and text.
 */
export function parseXml(source: string): XmlElement | undefined {
  const root = { name: "", text: "", children: [] as XmlElement[] };
  const open = [root];
  for (let at = source.startsWith("\uFEFF") ? 1 : 0; at < source.length;) {
    const inside = open.at(-1)!;
    const next = source.indexOf("<", at);
    const text = decoded(source.slice(at, next === -1 ? source.length : next));
    if (text === undefined || (inside === root && text.trim() !== "")) return undefined;
    inside.text += text;
    if (next === -1) break;
    TAG.lastIndex = next;
    const tag = TAG.exec(source);
    if (tag === null) return undefined;
    at = TAG.lastIndex;
    const [, closing, name, closed] = tag;
    if (name === undefined) continue;
    if (closing === "/") {
      if (inside === root || inside.name !== name || closed === "/") return undefined;
      open.pop();
      continue;
    }
    const element = { name, text: "", children: [] };
    inside.children.push(element);
    if (closed !== "/") open.push(element);
    if (open.length > MAX_DEPTH) return undefined;
  }
  const [first, second] = root.children;
  return open.length === 1 && second === undefined ? first : undefined;
}

/** The text of the first child of that name; undefined where there is none. */
export function textOf(element: XmlElement | undefined, name: string): string | undefined {
  return element?.children.find((child) => child.name === name)?.text;
}

/** The children of that name. */
export function childrenOf(element: XmlElement, name: string): readonly XmlElement[] {
  return element.children.filter((child) => child.name === name);
}

function decoded(text: string): string | undefined {
  if (!text.includes("&")) return text;
  let isSound = true;
  const plain = text.replace(
    /&(?:#(\d{1,7})|#x([\da-fA-F]{1,6})|([a-z]{2,4}));|&/g,
    (_, dec, hex, name) => {
      const code =
        dec !== undefined ? Number(dec) : hex !== undefined ? parseInt(hex, 16) : undefined;
      if (code !== undefined && code <= 0x10ffff) return String.fromCodePoint(code);
      const known = ENTITIES[String(name)];
      isSound &&= known !== undefined;
      return known ?? "";
    },
  );
  return isSound ? plain : undefined;
}
