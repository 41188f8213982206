import { printableBytes } from "../../base/printable.ts";
import { keySlot } from "../../cluster/slots/key-slot.ts";
import { SLOTS } from "../../cluster/slots/slot-ranges.ts";
import { payloadVersion } from "../../rdb/payload-format.ts";
import type { RdbFormat, Release } from "../../rdb/releases.ts";
import { type DeliveredEntry, freeLarge, payloadBytes } from "./entry.ts";

/** A key as it is named in an error. */
interface Example {
  readonly db: number;
  readonly key: string;
}

/** All values of one type. */
interface TypeCount {
  readonly type: number;
  readonly kind: string;
  readonly file: RdbFormat;
  readonly first: Example;
  keys: number;
}

/** What can't be loaded, and by whom it can. */
export interface Unfit extends Pick<TypeCount, "type" | "kind" | "file" | "keys" | "first"> {}

/** What is to be delivered, learned before anything is: how much, of which types, into which databases. */
export class Survey {
  keys = 0;
  /** Of all payloads. */
  bytes = 0;
  largest: (Example & { readonly bytes: number }) | undefined;
  readonly databases = new Set<number>();
  /** Which slots the keys are in. */
  readonly slots = new Uint8Array(SLOTS);
  /** The modules' types, by their names. */
  readonly modules = new Map<string, Example>();
  /** There are some thirty types, and one file has one format. */
  readonly #types = new Map<string, TypeCount>();

  /** @throws whatever reading the entries throws; the signal's reason. */
  static async of(entries: AsyncIterable<DeliveredEntry>, signal: AbortSignal): Promise<Survey> {
    const survey = new Survey();
    for await (const entry of entries) {
      signal.throwIfAborted();
      survey.#add(entry);
      freeLarge(payloadBytes(entry));
    }
    return survey;
  }

  /** The types that a server can't load. */
  unfitFor(server: Release): Unfit[] {
    return [...this.#types.values()].filter(
      ({ type, file }) => payloadVersion(type, file, server) === undefined,
    );
  }

  #add(entry: DeliveredEntry): void {
    const { db, key, kind, opcode, magic, rdbVersion } = entry;
    const bytes = payloadBytes(entry);
    this.keys++;
    this.bytes += bytes;
    this.databases.add(db);
    this.slots[keySlot(key)] = 1;
    if (this.largest === undefined || bytes > this.largest.bytes) {
      this.largest = { ...exampleOf(entry), bytes };
    }
    const name = `${magic} ${rdbVersion} ${opcode}`;
    const counted = this.#types.get(name);
    if (counted !== undefined) counted.keys++;
    else {
      const file = { magic, version: rdbVersion };
      this.#types.set(name, { type: opcode, kind, file, first: exampleOf(entry), keys: 1 });
    }
    if (kind !== "module" || this.modules.size >= MAX_MODULES) return;
    const module = moduleOf(entry);
    if (!this.modules.has(module)) this.modules.set(module, exampleOf(entry));
  }
}

/** How many modules' types are remembered: a server with more is not known. */
const MAX_MODULES = 100;

function exampleOf({ db, key }: DeliveredEntry): Example {
  return { db, key: printableBytes(key) };
}

const NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/** A length of 64 bits, big endian ("Redis, rdb.h", RDB_64BITLEN). */
const LENGTH_64 = 0x81;

/** The name of a module's type: nine characters of six bits, and ten bits of version ("Redis, module.c", moduleTypeNameByID). */
function moduleOf({ value }: DeliveredEntry): string {
  if (value.length < 9 || value[0] !== LENGTH_64) return "unknown";
  let id = Buffer.from(value.subarray(1, 9)).readBigUInt64BE() >> 10n;
  let name = "";
  for (let at = 0; at < 9; at++) {
    name = NAME_CHARACTERS[Number(id & 63n)]! + name;
    id >>= 6n;
  }
  return name;
}
