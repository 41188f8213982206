/** The direction of the bytes that a fault affects. */
export type Direction = "to-replica" | "to-primary";

export const DIRECTIONS: readonly Direction[] = ["to-replica", "to-primary"];

/** The effect of a fault on one direction of a connection. */
export type Effect =
  /** Bytes are passed on `ms` milliseconds late. */
  | { readonly kind: "delay"; readonly ms: number }
  | { readonly kind: "rate"; readonly bytesPerSecond: number }
  /** Single bytes, each in its own packet as far as the kernel allows. */
  | { readonly kind: "single-bytes" }
  /** Nothing passes any more, not even FIN; the connection stays open. */
  | { readonly kind: "black-hole" }
  /** FIN, while the other direction goes on; later bytes are dropped. */
  | { readonly kind: "half-close" }
  /** Both ends are reset (RST). */
  | { readonly kind: "reset" };

export interface Fault {
  readonly direction: Direction;
  /** Bytes of this direction that pass before the fault begins; 0: it begins with the connection. */
  readonly afterBytes: number;
  /** Bytes it lasts. Default: to the end of the connection. */
  readonly lastsBytes?: number;
  readonly effect: Effect;
}

/** The faults of one connection. If two overlap in a direction, the first one holds. */
export type Plan = readonly Fault[];

/** What has passed through a route so far. */
export interface RouteCount {
  /** Connections so far, including those to an absent primary. */
  readonly connections: number;
  /** Plans without a connection yet. */
  readonly waiting: number;
  /** Bytes passed on, by connection and direction. */
  readonly passed: readonly Readonly<Record<Direction, number>>[];
}

/** A request to the proxy's process; its answer has the same `id`. */
export type ProxyRequest = { readonly id: number } & (
  | { readonly ask: "route"; readonly host: string; readonly port: number }
  /** Plans for the next connections, one each, and for all later ones. */
  | {
      readonly ask: "plan";
      readonly route: number;
      readonly next: readonly Plan[];
      readonly later: Plan;
    }
  /** A fault for the open connections, from their next byte on. */
  | {
      readonly ask: "inject";
      readonly route: number;
      readonly direction: Direction;
      readonly effect: Effect;
      readonly lastsBytes?: number;
    }
  | { readonly ask: "count"; readonly route: number }
  | { readonly ask: "close"; readonly route: number }
);

export type ProxyAnswer = { readonly id: number } & (
  | { readonly route: number; readonly port: number }
  | { readonly done: true }
  | { readonly count: RouteCount }
  | { readonly error: string }
);
