import { ReplicaError } from "../base/errors.ts";
import type { Stoppable } from "./api/common.d.ts";
import type { FollowEvent, Following, FollowOptions, FollowStatus } from "./api/follow.d.ts";
import { EventBuffer } from "./event-buffer.ts";
import { rejection, signalOf } from "./rejections.ts";

/** A primary that is being followed. What follows is loaded once it begins. */
export class Follower implements Following {
  readonly ended: Promise<void>;
  readonly #events = new EventBuffer();
  readonly #stopping = new AbortController();
  #status: () => FollowStatus | undefined = () => undefined;

  /** @param more its signal ends it as `stop` does. */
  constructor(options: FollowOptions, more: Stoppable) {
    this.ended = this.#run(options, more);
    // Whoever iterates is told by that, and need not look here.
    this.ended.then(
      () => this.#events.end(undefined),
      (error: unknown) => this.#events.end(error),
    );
  }

  status(): FollowStatus | undefined {
    return this.#status();
  }

  async stop(): Promise<void> {
    this.#abort();
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  [Symbol.asyncIterator](): AsyncGenerator<FollowEvent, void, undefined> {
    return this.#events.read();
  }

  readonly #abort = (): void => {
    const message = "the program that follows has stopped it";
    this.#stopping.abort(new ReplicaError("STOPPED", { retry: "never", message }));
  };

  async #run(options: FollowOptions, more: Stoppable): Promise<void> {
    const signal = signalOf(more);
    if (signal?.aborted === true) return;
    signal?.addEventListener("abort", this.#abort, { once: true });
    const stopping = this.#stopping.signal;
    try {
      const { followPrimary } = await import("./follow-primary.ts");
      if (stopping.aborted) return;
      await followPrimary(options, stopping, {
        onEvent: (event) => this.#events.push(event),
        onStatus: (status) => (this.#status = status),
      });
    } catch (error) {
      const isStop = error instanceof ReplicaError && error.code === "STOPPED";
      if (!(stopping.aborted && isStop)) throw rejection(error);
    } finally {
      signal?.removeEventListener("abort", this.#abort);
    }
  }
}
