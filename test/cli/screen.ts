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

  /** What was written, without control sequences. */
  get plain(): string {
    return this.text.replaceAll(/\x1b\[[0-9;?]*[a-zA-Z]/g, "");
  }
}
