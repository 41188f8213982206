import { contentError } from "./content-error.ts";
import type { OrderedDigest } from "./digest.ts";
import { eachEntry } from "./packed-entries.ts";
import type { ValueBytes } from "./value-bytes.ts";

/* The flags of a stream's entry ("Redis, t_stream.c": STREAM_ITEM_FLAG_…). */
const DELETED = 1;
const SAME_FIELDS = 2;

/** The version of a stream's form, by the type of the value in the RDB. */
const VERSIONS: Readonly<Record<number, number>> = { 15: 1, 19: 2, 21: 3, 26: 4, 27: 5 };

/** The version of the form of a stream; undefined for a value that is none. */
export function streamVersion(opcode: number): number | undefined {
  return VERSIONS[opcode];
}

/**
 * Digests a stream: its entries, the last id, and its groups with their consumers and what these haven't acknowledged. When
 * a consumer was last seen is left out: a replay sets that to its own time.
 * @returns its digest; then one each of what later versions of the form have added, as far as this one has it. What only
 * one of two streams can have doesn't tell them apart.
 * @throws ReplicaError BAD_PAYLOAD.
 */
export function digestStream(
  value: ValueBytes,
  version: number,
  digest: OrderedDigest,
): readonly Uint8Array[] {
  const later: Later = { counters: [], nacked: [], producers: [] };
  for (let nodes = value.length(); nodes > 0; nodes--) digestNode(value, digest);
  value.length();
  id(value, digest);
  if (version >= 2) {
    // The first id follows from the entries.
    value.length();
    value.length();
    for (let numbers = 3; numbers > 0; numbers--) later.counters.push(value.lengthBytes());
  }
  for (let groups = count(value, digest); groups > 0; groups--) {
    digestGroup(value, version, digest, later);
  }
  if (version >= 4) readProducers(value, later);
  const digests = [digest.finish()];
  if (version >= 2) digests.push(digestOf(later.counters, digest));
  if (version >= 4) digests.push(digestOf(later.producers, digest));
  if (version >= 5) digests.push(digestOf(later.nacked, digest));
  return digests;
}

/** What later versions have added. */
interface Later {
  /** Since version 2: the largest id that was deleted, how many entries were ever added, and read by each group. */
  readonly counters: Uint8Array[];
  /** Since version 4. */
  readonly producers: (number | Uint8Array)[];
  /** Since version 5. */
  readonly nacked: (number | Uint8Array)[];
}

function digestOf(parts: readonly (number | Uint8Array)[], digest: OrderedDigest): Uint8Array {
  for (const part of parts) {
    if (typeof part === "number") digest.number(part);
    else digest.add(part);
  }
  return digest.finish();
}

/** A count that is part of the content. */
function count(value: ValueBytes, digest: OrderedDigest): number {
  const found = value.length();
  digest.number(found);
  return found;
}

function id(value: ValueBytes, digest: OrderedDigest): void {
  digest.bytes(value.lengthBytes());
  digest.bytes(value.lengthBytes());
}

function digestGroup(
  value: ValueBytes,
  version: number,
  digest: OrderedDigest,
  later: Later,
): void {
  digest.add(value.string());
  id(value, digest);
  if (version >= 2) later.counters.push(value.lengthBytes());
  for (let pending = count(value, digest); pending > 0; pending--) {
    // Id and time of delivery.
    digest.bytes(value.take(16 + 8));
    digest.number(value.length());
  }
  for (let consumers = count(value, digest); consumers > 0; consumers--) {
    digest.add(value.string());
    value.take(version >= 3 ? 16 : 8);
    for (let pending = count(value, digest); pending > 0; pending--) digest.bytes(value.take(16));
  }
  if (version < 5) return;
  const nacked = value.length();
  later.nacked.push(nacked);
  for (let left = nacked; left > 0; left--) later.nacked.push(value.take(16));
}

/** Duration, most entries, each producer's entries, two counters. */
function readProducers(value: ValueBytes, { producers }: Later): void {
  producers.push(value.lengthBytes(), value.lengthBytes());
  const all = value.length();
  producers.push(all);
  for (let left = all; left > 0; left--) {
    producers.push(value.string());
    const entries = value.length();
    producers.push(entries);
    for (let entry = entries; entry > 0; entry--) producers.push(value.string(), value.take(16));
  }
  producers.push(value.lengthBytes(), value.lengthBytes());
}

/**
 * Digests the entries of a node, whatever node they are in: a listpack, in which the ids are differences to the node's own,
 * and the fields are left out where they are those of its first entry.
 */
function digestNode(value: ValueBytes, digest: OrderedDigest): void {
  const master = value.string();
  if (master.length !== 16) throw contentError("the id of a stream's node is malformed");
  const view = new DataView(master.buffer, master.byteOffset);
  const node = new StreamNode(view.getBigUint64(0), view.getBigUint64(8), digest);
  eachEntry("listpack", value.string(), (entry) => node.take(entry));
  node.end();
}

type Expected =
  | { readonly at: "head"; left: number }
  | { readonly at: "master fields"; left: number }
  | { readonly at: "flags" | "ms" | "seq" | "count" | "length" }
  | { readonly at: "values"; left: number; field: number };

/** Takes the parts of a node one by one. */
class StreamNode {
  readonly #ms: bigint;
  readonly #seq: bigint;
  readonly #digest: OrderedDigest;
  readonly #fields: Uint8Array[] = [];
  /** How many entries there are and were, and how many fields the first one has. */
  #head: number[] = [];
  #expected: Expected = { at: "head", left: 3 };
  #flags = 0;
  #entryMs = 0n;

  constructor(ms: bigint, seq: bigint, digest: OrderedDigest) {
    this.#ms = ms;
    this.#seq = seq;
    this.#digest = digest;
  }

  take(part: Uint8Array): void {
    const expected = this.#expected;
    switch (expected.at) {
      case "head":
        this.#head.push(number(part));
        expected.left--;
        if (expected.left > 0) return;
        // A zero ends the master entry.
        this.#expected = { at: "master fields", left: (this.#head[2] ?? 0) + 1 };
        return;
      case "master fields":
        expected.left--;
        if (expected.left > 0) this.#fields.push(Uint8Array.from(part));
        else this.#expected = { at: "flags" };
        return;
      case "flags":
        this.#flags = number(part);
        this.#expected = { at: "ms" };
        return;
      case "ms":
        this.#entryMs = this.#ms + bigint(part);
        this.#expected = { at: "seq" };
        return;
      case "seq":
        this.#begin(this.#seq + bigint(part));
        return;
      case "count":
        this.#values(number(part));
        return;
      case "values":
        this.#value(part, expected);
        return;
      case "length":
        this.#expected = { at: "flags" };
        return;
    }
  }

  end(): void {
    if (this.#expected.at !== "flags") throw contentError("a stream's node ends within an entry");
  }

  get #isDeleted(): boolean {
    return (this.#flags & DELETED) !== 0;
  }

  #begin(seq: bigint): void {
    if (!this.#isDeleted) {
      const id = Buffer.alloc(16);
      id.writeBigUInt64BE(BigInt.asUintN(64, this.#entryMs), 0);
      id.writeBigUInt64BE(BigInt.asUintN(64, seq), 8);
      this.#digest.bytes(id);
    }
    if ((this.#flags & SAME_FIELDS) === 0) this.#expected = { at: "count" };
    else this.#values(this.#fields.length);
  }

  #values(fields: number): void {
    if (!this.#isDeleted) this.#digest.number(fields);
    const isSame = (this.#flags & SAME_FIELDS) !== 0;
    const left = isSame ? fields : 2 * fields;
    this.#expected = left === 0 ? { at: "length" } : { at: "values", left, field: 0 };
  }

  #value(part: Uint8Array, expected: Extract<Expected, { at: "values" }>): void {
    if (!this.#isDeleted) {
      const field = this.#fields[expected.field];
      if ((this.#flags & SAME_FIELDS) !== 0 && field !== undefined) this.#digest.add(field);
      this.#digest.add(part);
    }
    expected.field++;
    expected.left--;
    if (expected.left === 0) this.#expected = { at: "length" };
  }
}

/** A count, which is never negative. */
function number(part: Uint8Array): number {
  const found = Number(text(part));
  if (Number.isSafeInteger(found) && found >= 0) return found;
  throw contentError("a count in a stream's node is malformed");
}

function bigint(part: Uint8Array): bigint {
  const found = text(part);
  if (/^-?\d{1,20}$/.test(found)) return BigInt(found);
  throw contentError("an id in a stream's node is malformed");
}

function text(part: Uint8Array): string {
  return Buffer.from(part.buffer, part.byteOffset, part.byteLength).toString("latin1");
}
