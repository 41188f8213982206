import { logger } from "../../base/logger.ts";
import { limits } from "../../config/limits.ts";

/** Says each thing once for as long as it lasts, and not at each look. */
export class Told {
  readonly #said = new Map<string, string>();

  /** @param about what it is about: a new text about the same is news. */
  warn(about: string, text: string): void {
    if (this.#said.get(about) === text) return;
    this.#said.set(about, text);
    const [oldest] = this.#said.keys();
    if (this.#said.size > limits.toldThings) this.#said.delete(oldest!);
    logger.warn(text);
  }

  /** It is over. @param text said where it had been told of. */
  over(about: string, text?: string): void {
    if (this.#said.delete(about) && text !== undefined) logger.info(text);
  }

  /** Whether it was told, and isn't over. */
  has(about: string): boolean {
    return this.#said.has(about);
  }
}
