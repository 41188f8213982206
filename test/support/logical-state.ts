import { type Reply, ReplyError } from "./resp.ts";
import type { RealServer } from "./servers.ts";

/** One key, as a client sees it. */
export interface KeyState {
  /** Type, value and expiry, in one text: what is equal for two servers that hold the same. */
  readonly text: string;
  readonly expiresAtMs: number;
  /** Of a hash: its fields, with value and expiry. */
  readonly fields: ReadonlyMap<string, FieldState>;
  /** Of a hash: fields that it holds, those included that are due and no longer shown. */
  readonly heldFields: number;
}

export interface FieldState {
  readonly value: string;
  readonly expiresAtMs: number;
}

/** By database and key: "0 h1". */
export type LogicalState = ReadonlyMap<string, KeyState>;

const NEVER = Infinity;

/** Reads all keys of databases 0 and 1. Whatever is due isn't part of it. */
export async function logicalState(
  server: RealServer,
  hasFieldExpiry: boolean,
): Promise<LogicalState> {
  await using client = await server.connect();
  const state = new Map<string, KeyState>();
  const ask = async (...words: (string | number)[]): Promise<Reply> => {
    const [reply] = await client.exchange([words]);
    return reply ?? null;
  };
  const list = async (...words: (string | number)[]) => {
    const reply = await ask(...words);
    if (reply instanceof ReplyError) return [];
    return (reply as Reply[]).map(String);
  };
  const expiry = (ms: number) => (ms < 0 ? NEVER : ms);
  const valueOf = async (type: string, key: string): Promise<string> => {
    switch (type) {
      case "string":
        return String(await ask("GET", key));
      case "list":
        return JSON.stringify(await list("LRANGE", key, 0, -1));
      case "set":
        return JSON.stringify((await list("SMEMBERS", key)).toSorted());
      case "zset":
        return JSON.stringify(await list("ZRANGE", key, 0, -1, "WITHSCORES"));
      default:
        return type;
    }
  };
  const fieldsOf = async (key: string) => {
    const fields = new Map<string, FieldState>();
    const pairs = await list("HGETALL", key);
    for (let at = 0; at < pairs.length; at += 2) {
      const [name, value] = [pairs[at]!, pairs[at + 1]!];
      const [ms] = hasFieldExpiry ? await list("HPEXPIRETIME", key, "FIELDS", 1, name) : ["-1"];
      // It may have become due meanwhile.
      if (ms !== "-2") fields.set(name, { value, expiresAtMs: expiry(Number(ms)) });
    }
    return fields;
  };
  for (const db of [0, 1]) {
    await ask("SELECT", db);
    for (const key of (await list("KEYS", "*")).toSorted()) {
      const type = String(await ask("TYPE", key));
      const heldFields = type === "hash" ? Number(await ask("HLEN", key)) : 0;
      const fields = type === "hash" ? await fieldsOf(key) : new Map<string, FieldState>();
      const value = await valueOf(type, key);
      // Read last: if the key is there now, it was while all the rest was read.
      const ms = Number(await ask("PEXPIRETIME", key));
      // Due meanwhile, or nothing of it is shown.
      if (ms === -2 || (type === "hash" && fields.size === 0)) continue;
      const expiresAtMs = expiry(ms);
      state.set(`${db} ${key}`, { text: `${type} ${value}`, expiresAtMs, fields, heldFields });
    }
  }
  return state;
}

/** What is left of a state at a later time. */
export function livingAt(state: LogicalState, atMs: number): Map<string, KeyState> {
  const living = new Map<string, KeyState>();
  for (const [name, key] of state) {
    const fields = new Map([...key.fields].filter(([, { expiresAtMs }]) => expiresAtMs > atMs));
    const isEmpty = key.fields.size > 0 && fields.size === 0;
    if (key.expiresAtMs > atMs && !isEmpty) living.set(name, { ...key, fields });
  }
  return living;
}

/** One text for a key, equal where the keys are. */
export function keyText(key: KeyState | undefined): string {
  if (key === undefined) return "nothing";
  const fields = [...key.fields]
    .map(([name, { value, expiresAtMs }]) => `${name}=${value}@${expiresAtMs}`)
    .toSorted();
  return `${key.text} ${fields.join(" ")} @${key.expiresAtMs}`;
}
