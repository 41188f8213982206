/** Which way the bytes go that a fault hits. */
export type Direction = "to-replica" | "to-primary";

export const DIRECTIONS: readonly Direction[] = ["to-replica", "to-primary"];

/** What befalls one direction of a connection. */
export type Effect =
  /** What comes is passed on so many milliseconds later. */
  | { readonly kind: "delay"; readonly ms: number }
  | { readonly kind: "rate"; readonly bytesPerSecond: number }
  /** Single bytes, each in a packet of its own as far as the kernel allows. */
  | { readonly kind: "single-bytes" }
  /** Nothing passes any more, an end neither; the connection stays. */
  | { readonly kind: "black-hole" }
  /** An end (FIN), while the other direction goes on; what comes later is dropped. */
  | { readonly kind: "half-close" }
  /** Both ends are broken (RST). */
  | { readonly kind: "reset" };

export interface Fault {
  readonly direction: Direction;
  /** Begins behind exactly so many bytes of this direction, at 0 with the connection. */
  readonly afterBytes: number;
  /** How many bytes it lasts; to the connection's end unless told. */
  readonly lastsBytes?: number;
  readonly effect: Effect;
}

/** The faults of one connection; of two that hold at once in a direction, the first. */
export type Plan = readonly Fault[];

/** What has gone through a route so far. */
export interface RouteCount {
  /** Connections so far, those to a primary that wasn't there included. */
  readonly connections: number;
  /** Plans that wait for a connection. */
  readonly waiting: number;
  /** Bytes passed on, by the connection's number and the direction. */
  readonly passed: readonly Readonly<Record<Direction, number>>[];
}

/** What the test asks of the proxy's process; each has one answer with the same `id`. */
export type ProxyRequest = { readonly id: number } & (
  | { readonly ask: "route"; readonly host: string; readonly port: number }
  /** The next connections in turn, and all that come after them. */
  | {
      readonly ask: "plan";
      readonly route: number;
      readonly next: readonly Plan[];
      readonly later: Plan;
    }
  /** Hits the connections that are there, from their next byte on. */
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
