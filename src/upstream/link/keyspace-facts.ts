import { type DatabaseKeys, parseInfo, parseKeyspace } from "../../resp/info-text.ts";

/** What a primary says of its keys. */
export interface KeyspaceFacts {
  readonly databases: readonly DatabaseKeys[];
  /** Whether no other database holds keys. */
  readonly isWhole: boolean;
  /** Since when that is so, in milliseconds since 1970, where it only passes on what it knows; undefined: now. */
  readonly atMs: number | undefined;
}

/** Reads the section Keyspace of INFO; undefined where there is none, or where it is not known there. */
export function readKeyspace(infoText: string): KeyspaceFacts | undefined {
  if (!/^# Keyspace\r?$/m.test(infoText)) return undefined;
  const databases = parseKeyspace(infoText).filter((one) =>
    Object.values(one).every(Number.isSafeInteger),
  );
  const info = parseInfo(infoText);
  // Another `replica` counts no keys either, and says what it knows, and since when.
  const source = info.get("keyspace_source");
  if (source === undefined) return { databases, isWhole: true, atMs: undefined };
  const time = info.get("keyspace_time") ?? "";
  if (!/^[1-9]\d{0,11}$/.test(time)) return undefined;
  return { databases, isWhole: source === "primary", atMs: Number(time) * 1000 };
}
