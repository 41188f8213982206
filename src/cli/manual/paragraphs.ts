/** A part of a longer text. */
export interface Paragraph {
  /** Lines that stay as they are: they began with blanks. */
  readonly isVerbatim: boolean;
  /** One line, to be wrapped; several where they are verbatim. */
  readonly text: string;
}

/** The paragraphs of a text: blank lines part them, and the lines of each are joined, whatever the source wraps them at. */
export function paragraphsOf(text: string): Paragraph[] {
  return text
    .split(/\n\s*\n/)
    .filter((block) => block.trim() !== "")
    .map((block) => {
      const isVerbatim = block.startsWith("  ");
      return { isVerbatim, text: isVerbatim ? block : block.trim().replaceAll(/\s*\n\s*/g, " ") };
    });
}

/** A command line in lines of that width at most, each but the last continued with a backslash; words stay whole. */
export function continuedLines(line: string, width: number): string[] {
  // A flag and its value stay together, too.
  const parts = line.match(/--[a-z-]+ [^\s|-]\S*|\S+/g) ?? [];
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + part.length <= width - 2) {
      lines[lines.length - 1] = `${last} ${part}`;
    } else lines.push(lines.length === 0 ? part : `  ${part}`);
  }
  return lines.map((one, index) => (index < lines.length - 1 ? `${one} \\` : one));
}
