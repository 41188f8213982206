import type { BulkReader } from "../resp/bulk-reader.ts";
import type { Effect } from "./events.ts";
import type { FirstLink, State } from "./state.ts";

/** As State, with what only the session itself may use. */
export type Inner =
  | Exclude<State, { at: "transfer" }>
  | (Extract<State, { at: "transfer" }> & { readonly reader: BulkReader });

/** What the parts of a session share: where it stands, what must be done, and the clock. */
export class Core {
  #state: Inner = { at: "none" };
  #effects: Effect[] = [];
  /** Milliseconds of a clock that never runs backwards. */
  nowMs = 0;
  /** When the primary was last heard: on the link that brings the payload, where there are two. */
  lastIoMs = 0;

  get state(): Inner {
    return this.#state;
  }

  /** The one door for moves. */
  move(next: Inner): void {
    this.#state = next;
  }

  do(effect: Effect): void {
    this.#effects.push(effect);
  }

  /** The effects since the last call. */
  takeEffects(): readonly Effect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  /** Sends a command whose reply has its time limit from now on. */
  send(command: Uint8Array): void {
    this.do({ do: "send", bytes: command });
    this.lastIoMs = this.nowMs;
  }
}

/** Set while a full sync takes two links. */
export function firstOf(state: Inner): FirstLink | undefined {
  return "first" in state ? state.first : undefined;
}
