import { Output } from "../../src/cli/output.ts";

/** An output that remembers what was written. */
export class Screen {
  readonly output: Output;
  text = "";

  constructor(options: { isTty?: boolean; columns?: number } = {}) {
    this.output = new Output({
      sink: (text) => {
        this.text += text;
      },
      isTty: options.isTty ?? false,
      columns: () => options.columns ?? 120,
    });
  }

  /** What was written, without control sequences; going back to the first column is \r. */
  get plain(): string {
    return Bun.stripANSI(this.text.replaceAll("\x1b[1G", "\r"));
  }
}
