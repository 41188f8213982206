import { bulk, integer, nil, push } from "../resp/reply.ts";
import { limits } from "../config/limits.ts";
import type { Client } from "./client.ts";

type Kind = "channels" | "patterns";

const WORDS = {
  channels: { on: "subscribe", off: "unsubscribe" },
  patterns: { on: "psubscribe", off: "punsubscribe" },
} as const;

/**
 * Messages between the clients of this port, as Redis passes them on ("pubsub.c"). Sentinels meet each
 * other this way. Names are latin1 text: any bytes.
 */
export class PubSub {
  /** Who listens, by name. */
  readonly #listeners: Record<Kind, Map<string, Set<Client>>> = {
    channels: new Map(),
    patterns: new Map(),
  };

  /** SUBSCRIBE and PSUBSCRIBE; false where the client has as many as it may, or a name is too long. */
  subscribe(client: Client, kind: Kind, names: readonly string[]): boolean {
    for (const name of names) {
      if (!client[kind].has(name)) {
        if (client.subscriptions >= limits.clientSubscriptions) return false;
        if (name.length > limits.channelNameBytes) return false;
        client[kind].add(name);
        const listeners = this.#listeners[kind].get(name) ?? new Set();
        this.#listeners[kind].set(name, listeners.add(client));
      }
      this.#tell(client, WORDS[kind].on, name);
    }
    return true;
  }

  /** UNSUBSCRIBE and PUNSUBSCRIBE; without a name, from all. */
  unsubscribe(client: Client, kind: Kind, names: readonly string[]): void {
    const given = names.length > 0 ? names : [...client[kind]];
    for (const name of given) {
      this.#drop(client, kind, name);
      this.#tell(client, WORDS[kind].off, name);
    }
    if (given.length === 0) this.#tell(client, WORDS[kind].off, undefined);
  }

  /** The client is gone, or begins anew. */
  forget(client: Client): void {
    for (const kind of ["channels", "patterns"] as const) {
      // A set may lose what it is just giving.
      for (const name of client[kind]) this.#drop(client, kind, name);
    }
  }

  /** Passes a message on; to how many. */
  publish(channel: string, message: Uint8Array): number {
    let receivers = 0;
    const name = latin1(channel);
    for (const client of this.#listeners.channels.get(channel) ?? []) {
      client.send(push([bulk("message"), bulk(name), bulk(message)], client.proto));
      receivers++;
    }
    for (const [pattern, clients] of this.#listeners.patterns) {
      if (!globMatches(pattern, channel)) continue;
      const parts = [bulk("pmessage"), bulk(latin1(pattern)), bulk(name), bulk(message)];
      for (const client of clients) {
        client.send(push(parts, client.proto));
        receivers++;
      }
    }
    return receivers;
  }

  #drop(client: Client, kind: Kind, name: string): void {
    if (!client[kind].delete(name)) return;
    const listeners = this.#listeners[kind].get(name);
    listeners?.delete(client);
    if (listeners?.size === 0) this.#listeners[kind].delete(name);
  }

  #tell(client: Client, what: string, name: string | undefined): void {
    const shown = name === undefined ? nil(client.proto) : bulk(latin1(name));
    client.send(push([bulk(what), shown, integer(client.subscriptions)], client.proto));
  }
}

function latin1(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/**
 * Whether a text matches, as Redis's patterns do ("util.c, stringmatchlen"): `*`, `?`, `[a-z]`, `[^a]`,
 * and `\` before what is meant as it is. Its time is bounded by pattern times text, whatever the pattern.
 */
export function globMatches(pattern: string, text: string): boolean {
  let item = 0;
  let at = 0;
  // Where to go on after the last star, once what was tried behind it does not fit.
  let retry: { readonly item: number; at: number } | undefined;
  while (at < text.length) {
    if (pattern[item] === "*") {
      retry = { item: ++item, at };
      continue;
    }
    const next = behindItem(pattern, item, text[at]!);
    if (next !== undefined) {
      item = next;
      at++;
    } else if (retry !== undefined) {
      at = ++retry.at;
      item = retry.item;
    } else {
      return false;
    }
  }
  while (pattern[item] === "*") item++;
  return item >= pattern.length;
}

/** Where the pattern goes on behind one item, where that takes the character; else undefined. */
function behindItem(pattern: string, at: number, char: string): number | undefined {
  const first = pattern[at];
  if (first === "?") return at + 1;
  if (first === "[") return behindClass(pattern, at + 1, char);
  const literal = first === "\\" && at + 1 < pattern.length ? at + 1 : at;
  return pattern[literal] === char ? literal + 1 : undefined;
}

/** The same of a set, from behind its `[`. */
function behindClass(pattern: string, from: number, char: string): number | undefined {
  const negated = pattern[from] === "^";
  let isIn = false;
  let at = negated ? from + 1 : from;
  for (; at < pattern.length && pattern[at] !== "]"; at++) {
    if (pattern[at] === "\\" && at + 1 < pattern.length) at++;
    const low = pattern[at]!;
    if (pattern[at + 1] === "-" && at + 2 < pattern.length) {
      const high = pattern[at + 2]!;
      isIn ||= low < high ? low <= char && char <= high : high <= char && char <= low;
      at += 2;
    } else {
      isIn ||= low === char;
    }
  }
  return isIn === negated ? undefined : at + 1;
}
