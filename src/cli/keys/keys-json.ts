import { bytesToJson, wholeCharacters } from "../../base/printable.ts";
import type { BigKey, PrefixesFound } from "../../inspect/keys/key-report.ts";
import type { PrefixCount } from "../../inspect/keys/prefix-counts.ts";
import type { Amount } from "../../inspect/keys/tally.ts";
import { isComplete, type KeysReport, type ReadSnapshot } from "./keys-report.ts";

/** The report as one JSON document, for programs: these names stay. */
export function keysToJson(report: KeysReport): object {
  const { source, snapshots, found, prefixDepth, separators, db, match } = report;
  return {
    source,
    complete: isComplete(report),
    db: db ?? null,
    match: match ?? null,
    ...amountToJson(found.total),
    passed_over: found.passedOver,
    snapshots: snapshots.map((one, at) => snapshotToJson(one, found.snapshots[at])),
    types: found.types.map(({ kind, module, ...amount }) => ({
      type: kind,
      module: module ?? null,
      ...amountToJson(amount),
    })),
    encodings: found.encodings.map(({ kind, module, encoding, ...amount }) => ({
      type: kind,
      module: module ?? null,
      encoding,
      ...amountToJson(amount),
    })),
    databases: found.databases.map(({ db: number, ...amount }) => ({
      db: number ?? null,
      ...amountToJson(amount),
    })),
    time_to_live: found.lifeTimes.map(({ span, ...amount }) => ({
      left: span,
      ...amountToJson(amount),
    })),
    prefix_depth: prefixDepth,
    separators,
    prefixes: found.prefixes === undefined ? null : prefixesToJson(found.prefixes),
    biggest_by_bytes: found.byBytes.map((key) => bigKeyToJson(key, snapshots)),
    biggest_by_elements: found.byElements.map((key) => bigKeyToJson(key, snapshots)),
  };
}

/** `elements` is null where none of the keys has any that are known. */
function amountToJson({ keys, bytes, elements, counted }: Amount) {
  return { keys, bytes, elements: counted === 0 ? null : elements };
}

function snapshotToJson(snapshot: ReadSnapshot, amount: Amount | undefined) {
  const { shard, generation, offset, logBytes, format, server, atMs, atFrom } = snapshot;
  return {
    shard: shard ?? null,
    generation: generation ?? null,
    offset: offset ?? null,
    log_bytes: logBytes ?? null,
    format: format ?? null,
    server: server ?? null,
    time: new Date(atMs).toISOString(),
    time_from: atFrom,
    rdb_bytes: snapshot.rdbBytes ?? snapshot.readBytes,
    function_libraries: snapshot.functionLibraries ?? null,
    damage: snapshot.damage ?? null,
    ...(amount && amountToJson(amount)),
  };
}

function prefixesToJson({ isExact, distinct, byBytes, byKeys, ...found }: PrefixesFound) {
  return {
    exact: isExact,
    distinct: distinct ?? null,
    keys_missed_at_most: found.missedKeys,
    bytes_missed_at_most: found.missedBytes,
    by_bytes: byBytes.map(prefixToJson),
    by_keys: byKeys.map(prefixToJson),
  };
}

function prefixToJson({ prefix, keys, bytes, elements, ...missed }: PrefixCount) {
  return {
    prefix: bytesToJson(prefix),
    keys,
    bytes,
    elements,
    keys_missed_at_most: missed.maxMissedKeys,
    bytes_missed_at_most: missed.maxMissedBytes,
    elements_missed_at_most: missed.maxMissedElements,
  };
}

function bigKeyToJson(big: BigKey, snapshots: readonly ReadSnapshot[]) {
  const { snapshot, db, key, keyBytes, kind, module, encoding, bytes, elements } = big;
  const isCut = key.length < keyBytes;
  return {
    shard: snapshots[snapshot]?.shard ?? null,
    db,
    key: bytesToJson(isCut ? wholeCharacters(key) : key),
    key_bytes: keyBytes,
    key_is_cut: isCut,
    type: kind,
    module: module ?? null,
    encoding,
    bytes,
    elements: elements ?? null,
    expires_at_ms: big.expiresAtMs ?? null,
  };
}
