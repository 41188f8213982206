import { type Amount, Tally } from "./tally.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** The spans of the time that keys still have to live, each up to before its end. */
const SPANS = [
  { name: "expired", beforeMs: 1 },
  { name: "under_1m", beforeMs: MINUTE_MS },
  { name: "under_1h", beforeMs: HOUR_MS },
  { name: "under_1d", beforeMs: DAY_MS },
  { name: "under_7d", beforeMs: 7 * DAY_MS },
  { name: "under_30d", beforeMs: 30 * DAY_MS },
  { name: "30d_or_more", beforeMs: Infinity },
] as const;

const NEVER = "no_expiry";

/** The names of all spans, in the order in which they are told. */
export type LifeSpan = typeof NEVER | (typeof SPANS)[number]["name"];

export interface LifeAmount extends Amount {
  readonly span: LifeSpan;
}

/** Counts keys by how long they still have to live. */
export class LifeTimes {
  readonly #never = new Tally();
  readonly #spans = SPANS.map(() => new Tally());

  /**
   * Adds a key.
   * @param expiresAtMs undefined: never. @param nowMs the moment that it is compared with. Both in milliseconds since 1970.
   */
  add(
    expiresAtMs: number | undefined,
    nowMs: number,
    bytes: number,
    elements: number | undefined,
  ): void {
    if (expiresAtMs === undefined) return this.#never.add(bytes, elements);
    const leftMs = expiresAtMs - nowMs;
    let at = 0;
    while (at < SPANS.length - 1 && leftMs >= SPANS[at]!.beforeMs) at++;
    this.#spans[at]!.add(bytes, elements);
  }

  /** Every span, also those without a key. */
  amounts(): LifeAmount[] {
    const amountOf = (span: LifeSpan, { keys, bytes, elements, counted }: Amount) => ({
      span,
      keys,
      bytes,
      elements,
      counted,
    });
    return [
      amountOf(NEVER, this.#never),
      ...SPANS.map(({ name }, at) => amountOf(name, this.#spans[at]!)),
    ];
  }
}
