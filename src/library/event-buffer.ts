import type { FollowEvent } from "./api/follow.d.ts";

/** So many events wait for their reader: some hundred bytes each. */
const MAX_WAITING = 1000;
/** Of these only the newest is worth telling. */
const LATEST: ReadonlySet<FollowEvent["type"]> = new Set(["transfer", "moved"]);

/** Holds events until they are read. It never grows beyond its bound: what isn't read in time is dropped and counted. */
export class EventBuffer {
  readonly #waiting: FollowEvent[] = [];
  #dropped = 0;
  #end: { readonly error: unknown } | undefined;
  #changed = Promise.withResolvers<void>();

  push(event: FollowEvent): void {
    if (LATEST.has(event.type)) {
      const at = this.#waiting.findLastIndex(({ type }) => type === event.type);
      if (at !== -1) this.#waiting.splice(at, 1);
    }
    this.#waiting.push(event);
    if (this.#waiting.length > MAX_WAITING) {
      this.#waiting.shift();
      this.#dropped++;
    }
    this.#wake();
  }

  /** Nothing more comes. @param error what the reader gets after the last event; undefined: it just ends. */
  end(error: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  /** Gives what waits and what comes. Another reader may go on where this one stopped. */
  async *read(): AsyncGenerator<FollowEvent, void, undefined> {
    for (;;) {
      const changed = this.#changed.promise;
      const event = this.#take();
      if (event !== undefined) yield event;
      else if (this.#end === undefined) await changed;
      else if (this.#end.error === undefined) return;
      else throw this.#end.error;
    }
  }

  #take(): FollowEvent | undefined {
    if (this.#dropped === 0) return this.#waiting.shift();
    const count = this.#dropped;
    this.#dropped = 0;
    return { type: "dropped", atMs: this.#waiting[0]?.atMs ?? Date.now(), count };
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
