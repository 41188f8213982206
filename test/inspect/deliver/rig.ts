import type { Clock } from "../../../src/base/clock.ts";
import { realClock } from "../../../src/base/clock.ts";
import { loadSettings } from "../../../src/config/load-settings.ts";
import type { Password } from "../../../src/config/password.ts";
import { parseSource } from "../../../src/config/primary-source.ts";
import {
  deliver,
  type DeliverOptions,
  type Delivery,
  type Told,
} from "../../../src/inspect/deliver/deliver.ts";
import type { DeliveredEntry } from "../../../src/inspect/deliver/entry.ts";
import type { Outcome } from "../../../src/inspect/deliver/parcel.ts";
import { Survey } from "../../../src/inspect/deliver/survey.ts";
import { Target } from "../../../src/inspect/deliver/target.ts";

export interface BringOptions extends Partial<
  Pick<DeliverOptions, "replace" | "timeoutMs" | "maxLeftTold">
> {
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  readonly password?: Password;
  /** Called once for each key that is settled. */
  readonly onSettled?: (count: number) => void;
  readonly flags?: readonly (readonly [string, string])[];
}

export interface Brought extends Delivery {
  /** The names of the keys that were told of. */
  readonly told: Readonly<Record<Outcome, readonly string[]>>;
  readonly all: readonly Told[];
  readonly warnings: readonly string[];
  readonly troubles: readonly string[];
}

/** Entries one by one, as they come from a file. */
export async function* streamOf(
  entries: readonly DeliveredEntry[],
): AsyncGenerator<DeliveredEntry> {
  for (const entry of entries) yield entry;
}

/** Opens a target as the command does. */
export async function openTarget(url: string, options: BringOptions = {}): Promise<Target> {
  const { clock = realClock, signal = new AbortController().signal, password } = options;
  const settings = loadSettings({ flags: new Map(options.flags ?? []) });
  return await Target.open(parseSource(url), { password, settings, clock, signal });
}

/** Brings entries into a server, as the command does. */
export async function bring(
  entries: readonly DeliveredEntry[],
  url: string,
  options: BringOptions = {},
): Promise<Brought> {
  const { clock = realClock, signal = new AbortController().signal, replace = false } = options;
  const survey = await Survey.of(streamOf(entries), signal);
  using target = await openTarget(url, options);
  const warnings = await target.prepare(survey, replace);
  const all: Told[] = [];
  const troubles: string[] = [];
  let settled = 0;
  const delivery = await deliver(streamOf(entries), {
    target,
    survey,
    replace,
    clock,
    signal,
    timeoutMs: options.timeoutMs ?? 20_000,
    retryMaxMs: 200,
    maxLeftTold: options.maxLeftTold ?? Infinity,
    onKey: (told) => all.push(told),
    onProgress: () => options.onSettled?.(++settled),
    onTrouble: (why) => troubles.push(why),
  });
  const names = (outcome: Outcome) =>
    all
      .filter((one) => one.outcome === outcome)
      .map(({ entry }) => Buffer.from(entry.key).toString());
  const told = {
    restored: names("restored"),
    replaced: names("replaced"),
    existed: names("existed"),
    expired: names("expired"),
    failed: names("failed"),
    left: names("left"),
  };
  return { ...delivery, told, all, warnings, troubles };
}

/** A string as an RDB of Redis 7.0 holds it: its length in four bytes, and its bytes. */
export function stringEntry(key: string, value: string): DeliveredEntry {
  const bytes = Buffer.alloc(5 + Buffer.byteLength(value));
  bytes[0] = 0x80;
  bytes.writeUInt32BE(Buffer.byteLength(value), 1);
  bytes.write(value, 5);
  return {
    db: 0,
    key: Buffer.from(key),
    kind: "string",
    opcode: 0,
    value: bytes,
    expiresAtMs: undefined,
    idleSeconds: undefined,
    frequency: undefined,
    elements: undefined,
    rdbVersion: 10,
    magic: "REDIS",
  };
}

/** So many strings. */
export function stringEntries(count: number, valueBytes = 20): DeliveredEntry[] {
  return Array.from({ length: count }, (_, at) =>
    stringEntry(`key:${at}`, String(at).padEnd(valueBytes, ".")),
  );
}
