/** One command of a log; words are latin1, so that a character is a byte. */
export interface NaiveFrame {
  readonly start: number;
  readonly end: number;
  readonly words: readonly string[];
}

/**
 * Parses a whole log in the simplest way, as a reference for the program's own scanner. Leaves out a
 * command that is cut short at the end.
 * @throws Error for anything but arrays of bulk strings.
 */
export function naiveFrames(log: Buffer): NaiveFrame[] {
  const text = log.toString("latin1");
  const frames: NaiveFrame[] = [];
  for (let start = 0; ;) {
    let at = start;
    const number = (type: string): number | undefined => {
      const lineEnd = text.indexOf("\r\n", at);
      if (lineEnd === -1) return undefined;
      const line = text.slice(at, lineEnd);
      if (!/^[*$]\d+$/.test(line) || line[0] !== type) throw new Error(`at ${at}: ${line}`);
      at = lineEnd + 2;
      return Number(line.slice(1));
    };
    const count = number("*");
    const words: string[] = [];
    while (words.length < (count ?? 0)) {
      const length = number("$");
      if (length === undefined || at + length + 2 > text.length) break;
      words.push(text.slice(at, at + length));
      at += length + 2;
    }
    if (words.length !== count) return frames;
    frames.push({ start, end: at, words });
    start = at;
  }
}

/** The last safe cut: the end of the last whole command outside a transaction. */
export function naiveSafeCut(frames: readonly NaiveFrame[]): number {
  let safeCut = 0;
  let open = false;
  for (const { end, words } of frames) {
    if (/^(multi|exec)$/i.test(words[0] ?? "")) open = words[0]?.toLowerCase() === "multi";
    if (!open) safeCut = end;
  }
  return safeCut;
}
