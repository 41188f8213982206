import { Output } from "../../../src/cli/terminal/output.ts";

/** An Output that records what was written. */
export class Screen {
  readonly output: Output;
  text = "";
  readonly #listeners = new Set<() => void>();

  constructor(
    options: { isTty?: boolean; columns?: number; rows?: number; hasColors?: boolean } = {},
  ) {
    this.output = new Output({
      sink: (text) => {
        this.text += text;
      },
      isTty: options.isTty ?? false,
      hasColors: options.hasColors ?? false,
      columns: () => options.columns ?? 120,
      rows: () => options.rows ?? 40,
      onResize: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    });
  }

  /** Reports a change of size to the listeners and returns their number. */
  resized(): number {
    for (const listener of this.#listeners) listener();
    return this.#listeners.size;
  }

  /** What was written, without control sequences; a return to the first column is \r. */
  get plain(): string {
    return Bun.stripANSI(this.text.replaceAll("\x1b[1G", "\r"));
  }
}
