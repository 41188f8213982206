import { hasSlot, type SlotRange } from "../../src/cluster/slots/slot-ranges.ts";
import type { ClusterWriter } from "./cluster-writer.ts";
import { keySlot } from "./key-slot.ts";
import { RespClient } from "./resp-client.ts";

/** What is written this long before a moment is in it, and what is written this long after isn't. */
const EXACT_MS = 2_000;

/** A node of a restored cluster that is served. */
export interface ServedNode {
  readonly port: number;
  readonly slots: readonly SlotRange[];
  /** Slots whose migration to it has yet to end. */
  readonly importing?: readonly { readonly slot: number }[];
}

/** Every key of a restored cluster, with its value; and those that are twice there, or where no client finds them. */
export async function readAll(
  nodes: readonly ServedNode[],
): Promise<{ found: Map<string, string>; faults: string[] }> {
  const found = new Map<string, string>();
  const faults: string[] = [];
  for (const { port, slots, importing = [] } of nodes) {
    await using client = await RespClient.connect({ host: "127.0.0.1", port });
    const keys: string[] = [];
    for (let cursor = "0"; ;) {
      const [next, page] = (await client.send("SCAN", cursor, "COUNT", 1000)) as [string, string[]];
      keys.push(...page);
      cursor = next;
      if (cursor === "0") break;
    }
    // Without ASKING, a node sends a client away from a slot that it is getting.
    const replies = await client.exchange(keys.flatMap((key) => [["ASKING"], ["GET", key]]));
    for (const [at, key] of keys.entries()) {
      if (found.has(key)) faults.push(`${key} is there twice`);
      const isImported = importing.some(({ slot }) => slot === keySlot(key));
      if (!isImported && !hasSlot(slots, keySlot(key))) faults.push(`${key} is astray`);
      found.set(key, String(replies[2 * at + 1]));
    }
  }
  return { found, faults };
}

/**
 * What a restored moment lacks of what was written, or has too much.
 * @param linkedMs when the follower last had everything of a slot: the moment itself, unless it had no link then.
 */
export function differences(
  writer: ClusterWriter,
  found: ReadonlyMap<string, string>,
  atMs: number,
  linkedMs: (slot: number) => number = () => atMs,
): string[] {
  const faults: string[] = [];
  for (const { key, written, removed } of writer.keys) {
    const value = found.get(key);
    const sureMs = linkedMs(keySlot(key)) - EXACT_MS;
    const times = `written ${written.sentMs - atMs}, removed ${removed === undefined ? "never" : removed.sentMs - atMs}`;
    if (value !== undefined && value !== `value of ${key}`) faults.push(`${key} has another value`);
    if (value !== undefined && written.sentMs > atMs + EXACT_MS)
      faults.push(`${key} is early: ${times}`);
    const wasRemoved = removed !== undefined && removed.doneMs < sureMs;
    const mayBeRemoved = removed !== undefined && removed.sentMs < atMs + EXACT_MS;
    if (value !== undefined && wasRemoved) faults.push(`${key} is back: ${times}`);
    if (value === undefined && !mayBeRemoved && written.doneMs < sureMs) {
      faults.push(`${key} is lost: ${times}`);
    }
  }
  for (const [tag, spans] of writer.counts) {
    const sureMs = linkedMs(keySlot(`{${tag}}`)) - EXACT_MS;
    const least = spans.filter(({ doneMs }) => doneMs < sureMs).length;
    const most = spans.filter(({ sentMs }) => sentMs <= atMs + EXACT_MS).length;
    const count = Number(found.get(`{${tag}}:count`) ?? 0);
    if (count < least || count > most)
      faults.push(`the count of ${tag} is ${count}, not ${least} to ${most}`);
  }
  return faults;
}
