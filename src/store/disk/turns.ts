/** Runs asynchronous acts one after another. */
export class Turns {
  #running: Promise<unknown> | undefined;

  /** Runs `act` once no other one runs. @throws what `act` throws. */
  async run<T>(act: () => Promise<T>): Promise<T> {
    while (this.#running !== undefined) await this.#running.catch(() => undefined);
    const running = act();
    this.#running = running;
    try {
      return await running;
    } finally {
      this.#running = undefined;
    }
  }
}
