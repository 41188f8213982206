import { type SlotRange, SLOTS } from "../../cluster/slots/slot-ranges.ts";
import type { Words } from "../../resp/absolute-expiry.ts";

/** What a stream tells of slots that move. */
export type Migration =
  /** An atomic migration into this server has begun (Valkey 9). */
  | { readonly kind: "established"; readonly job: string; readonly ranges: readonly SlotRange[] }
  /** It has ended: well, or else what it had brought is gone. */
  | { readonly kind: "finished"; readonly job: string; readonly ok: boolean }
  /** A slot was opened, closed or given to a node. Says nothing about keys. */
  | {
      readonly kind: "setslot";
      readonly slot: number;
      /** `MIGRATING`, `IMPORTING`, `NODE` or `STABLE`. */
      readonly what: string;
      readonly node: string | undefined;
    }
  /** The keys of these slots are gone from here: an atomic migration out of this server has ended (Redis 8.4). */
  | { readonly kind: "trimmed"; readonly ranges: readonly SlotRange[] };

/** The longest word that is looked at: a node's or job's id has 40 characters. */
const LONGEST_WORD = 64;
/** The words of `CLUSTER SYNCSLOTS ESTABLISH` and `… FINISH` before their first option. */
const FIRST_OPTION = 3;

/**
 * Reads `CLUSTER SETSLOT`, `CLUSTER SYNCSLOTS ESTABLISH`, `CLUSTER SYNCSLOTS FINISH` and `TRIMSLOTS` ("Valkey 9.0,
 * cluster_migrateslots.c"; "Redis 8.4, cluster_asm.c").
 * @returns undefined for any other command, and for one of these in a form that isn't known.
 */
export function migrationOf(words: Words): Migration | undefined {
  switch (capitals(words[0])) {
    case "TRIMSLOTS":
      return trimmed(words);
    case "CLUSTER":
      return capitals(words[1]) === "SETSLOT" ? setSlot(words) : syncSlots(words);
    default:
      return undefined;
  }
}

function trimmed(words: Words): Migration | undefined {
  if (capitals(words[1]) !== "RANGES") return undefined;
  const count = Number(text(words[2]));
  const numbers = words.slice(3, 3 + 2 * count);
  const ranges = count > 0 && numbers.length === 2 * count ? rangesOf(numbers) : undefined;
  return ranges && { kind: "trimmed", ranges };
}

function setSlot(words: Words): Migration | undefined {
  const slot = slotOf(words[2]);
  const what = capitals(words[3]);
  if (slot === undefined || what === undefined) return undefined;
  return { kind: "setslot", slot, what, node: text(words[4]) };
}

function syncSlots(words: Words): Migration | undefined {
  if (capitals(words[1]) !== "SYNCSLOTS") return undefined;
  const job = text(words[optionAt(words, "NAME") + 1]);
  if (job === undefined) return undefined;
  switch (capitals(words[2])) {
    case "ESTABLISH": {
      const at = optionAt(words, "SLOTSRANGE");
      const ranges = rangesOf(words.slice(at + 1));
      return ranges && { kind: "established", job, ranges };
    }
    case "FINISH": {
      const state = capitals(words[optionAt(words, "STATE") + 1]);
      return { kind: "finished", job, ok: state === "SUCCESS" };
    }
    default:
      return undefined;
  }
}

/** Where an option's name stands; past the end where it is missing. Each option before it takes one value. */
function optionAt(words: Words, name: string): number {
  let at = FIRST_OPTION;
  while (at < words.length && capitals(words[at]) !== name) at += 2;
  return at;
}

/** Pairs of slots, up to the first word that is no number; undefined where there is none, or one of them is no range. */
function rangesOf(words: Words): SlotRange[] | undefined {
  const ranges: SlotRange[] = [];
  for (let at = 0; at < words.length; at += 2) {
    const first = slotOf(words[at]);
    if (first === undefined) break;
    const last = slotOf(words[at + 1]);
    if (last === undefined || last < first) return undefined;
    ranges.push([first, last]);
  }
  return ranges.length === 0 ? undefined : ranges;
}

function slotOf(word: Uint8Array | undefined): number | undefined {
  const digits = text(word) ?? "";
  const slot = Number(digits);
  return /^\d{1,5}$/.test(digits) && slot < SLOTS ? slot : undefined;
}

function capitals(word: Uint8Array | undefined): string | undefined {
  return text(word)?.toUpperCase();
}

function text(word: Uint8Array | undefined): string | undefined {
  if (word === undefined || word.length > LONGEST_WORD) return undefined;
  return Buffer.from(word.buffer, word.byteOffset, word.byteLength).toString("latin1");
}
