import { bulk, integer, nil, push } from "../resp/reply.ts";
import { limits } from "../config/limits.ts";
import type { Client } from "./client.ts";

type Kind = "channels" | "patterns";

const WORDS = {
  channels: { on: "subscribe", off: "unsubscribe" },
  patterns: { on: "psubscribe", off: "punsubscribe" },
} as const;

/**
 * Passes messages between the clients of this port, as Redis does ("pubsub.c"). Sentinels find each other this
 * way. Names are latin1 text, one character a byte.
 */
export class PubSub {
  /** The subscribers of each name. */
  readonly #listeners: Record<Kind, Map<string, Set<Client>>> = {
    channels: new Map(),
    patterns: new Map(),
  };

  /** SUBSCRIBE and PSUBSCRIBE. Returns false where the client has too many subscriptions, or a name is too long. */
  subscribe(client: Client, kind: Kind, names: readonly string[]): boolean {
    for (const name of names) {
      if (!client[kind].has(name)) {
        if (client.subscriptions >= limits.clientSubscriptions) return false;
        if (name.length > limits.channelNameBytes) return false;
        client[kind].add(name);
        const listeners = this.#listeners[kind].get(name) ?? new Set();
        this.#listeners[kind].set(name, listeners.add(client));
      }
      this.#confirm(client, WORDS[kind].on, name);
    }
    return true;
  }

  /** UNSUBSCRIBE and PUNSUBSCRIBE; without names, from all. */
  unsubscribe(client: Client, kind: Kind, names: readonly string[]): void {
    const given = names.length > 0 ? names : [...client[kind]];
    for (const name of given) {
      this.#drop(client, kind, name);
      this.#confirm(client, WORDS[kind].off, name);
    }
    if (given.length === 0) this.#confirm(client, WORDS[kind].off, undefined);
  }

  /** Ends all subscriptions of a client, without telling it. */
  forget(client: Client): void {
    for (const kind of ["channels", "patterns"] as const) {
      // A Set may be changed while it is iterated.
      for (const name of client[kind]) this.#drop(client, kind, name);
    }
  }

  /** Sends a message to the subscribers of a channel. Returns how many messages were sent. */
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

  #confirm(client: Client, what: string, name: string | undefined): void {
    const shown = name === undefined ? nil(client.proto) : bulk(latin1(name));
    client.send(push([bulk(what), shown, integer(client.subscriptions)], client.proto));
  }
}

function latin1(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/**
 * Whether a text matches a glob pattern of Redis ("util.c, stringmatchlen"): `*`, `?`, `[a-z]`, `[^a]`, and `\`
 * before a literal character. Takes time in proportion to pattern length times text length at most.
 */
export function globMatches(pattern: string, text: string): boolean {
  let item = 0;
  let at = 0;
  // Where to resume after the last star when a later item does not match.
  let retry: { readonly item: number; at: number } | undefined;
  while (at < text.length) {
    if (pattern[item] === "*") {
      retry = { item: ++item, at };
      continue;
    }
    const next = afterItem(pattern, item, text[at]!);
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

/** The position after one item of the pattern, where the item matches the character; else undefined. */
function afterItem(pattern: string, at: number, char: string): number | undefined {
  const first = pattern[at];
  if (first === "?") return at + 1;
  if (first === "[") return afterClass(pattern, at + 1, char);
  const literal = first === "\\" && at + 1 < pattern.length ? at + 1 : at;
  return pattern[literal] === char ? literal + 1 : undefined;
}

/** The same for a class `[…]`, from after its `[`. */
function afterClass(pattern: string, from: number, char: string): number | undefined {
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
