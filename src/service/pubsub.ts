import { bulk, integer, nil, push } from "../resp/reply.ts";
import { limits } from "../config.ts";
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
  readonly #channels = new Map<string, Set<Client>>();
  readonly #patterns = new Map<
    string,
    { matches: (channel: string) => boolean; clients: Set<Client> }
  >();

  /** SUBSCRIBE and PSUBSCRIBE; false where the client has as many as it may. */
  subscribe(client: Client, kind: Kind, names: readonly string[]): boolean {
    for (const name of names) {
      if (!client[kind].has(name)) {
        const bytes = client.subscribedBytes + name.length;
        if (client.subscriptions >= limits.clientSubscriptions) return false;
        if (bytes > limits.clientHeldBytes) return false;
        client.subscribedBytes = bytes;
        client[kind].add(name);
        this.#clientsOf(kind, name).add(client);
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
    for (const client of this.#channels.get(channel) ?? []) {
      client.send(push([bulk("message"), bulk(name), bulk(message)], client.proto));
      receivers++;
    }
    for (const [pattern, { matches, clients }] of this.#patterns) {
      if (!matches(channel)) continue;
      const parts = [bulk("pmessage"), bulk(latin1(pattern)), bulk(name), bulk(message)];
      for (const client of clients) {
        client.send(push(parts, client.proto));
        receivers++;
      }
    }
    return receivers;
  }

  #clientsOf(kind: Kind, name: string): Set<Client> {
    if (kind === "channels") {
      const clients = this.#channels.get(name) ?? new Set<Client>();
      this.#channels.set(name, clients);
      return clients;
    }
    const entry = this.#patterns.get(name) ?? { matches: globMatcher(name), clients: new Set() };
    this.#patterns.set(name, entry);
    return entry.clients;
  }

  #drop(client: Client, kind: Kind, name: string): void {
    if (!client[kind].delete(name)) return;
    client.subscribedBytes -= name.length;
    const clients = this.#clientsOf(kind, name);
    clients.delete(client);
    if (clients.size > 0) return;
    if (kind === "channels") this.#channels.delete(name);
    else this.#patterns.delete(name);
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
 * Matches as Redis's patterns do ("util.c, stringmatchlen"): `*`, `?`, `[a-z]`, `[^a]`, and `\` before
 * what is meant as it is. Its time is bounded by pattern times text, whatever the pattern.
 */
export function globMatcher(pattern: string): (text: string) => boolean {
  type Item =
    { readonly star: true } | { readonly star: false; readonly takes: (char: string) => boolean };
  const items: Item[] = [];
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    if (char === "*") {
      if (items.at(-1)?.star !== true) items.push({ star: true });
    } else if (char === "?") {
      items.push({ star: false, takes: () => true });
    } else if (char === "[") {
      const set = classAt(pattern, at + 1);
      items.push({ star: false, takes: set.takes });
      at = set.end;
    } else {
      const literal = char === "\\" && at + 1 < pattern.length ? pattern[++at]! : char;
      items.push({ star: false, takes: (other) => other === literal });
    }
  }
  return (text) => {
    let item = 0;
    let at = 0;
    // Where to go on after the last star, once what was tried behind it does not fit.
    let retry: { item: number; at: number } | undefined;
    while (at < text.length) {
      const next = items[item];
      if (next?.star === true) {
        retry = { item: ++item, at };
      } else if (next !== undefined && next.takes(text[at]!)) {
        item++;
        at++;
      } else if (retry !== undefined) {
        at = ++retry.at;
        item = retry.item;
      } else {
        return false;
      }
    }
    return items.slice(item).every((rest) => rest.star);
  };
}

/** The set behind a `[`, and where it ends. */
function classAt(pattern: string, from: number): { takes: (char: string) => boolean; end: number } {
  const negated = pattern[from] === "^";
  const ranges: [string, string][] = [];
  let at = negated ? from + 1 : from;
  for (; at < pattern.length && pattern[at] !== "]"; at++) {
    if (pattern[at] === "\\" && at + 1 < pattern.length) at++;
    const low = pattern[at]!;
    if (pattern[at + 1] === "-" && at + 2 < pattern.length) {
      const high = pattern[at + 2]!;
      ranges.push(low < high ? [low, high] : [high, low]);
      at += 2;
    } else {
      ranges.push([low, low]);
    }
  }
  const isIn = (char: string) => ranges.some(([low, high]) => low <= char && char <= high);
  return { takes: (char) => isIn(char) !== negated, end: at };
}
