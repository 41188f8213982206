import { Glob } from "../../base/glob.ts";
import { bulk, integer, nil, type Proto, push } from "../../resp/reply.ts";
import { limits } from "../../config/limits.ts";
import type { Client } from "./client.ts";

type Kind = "channels" | "patterns";

const WORDS = {
  channels: { on: "subscribe", off: "unsubscribe" },
  patterns: { on: "psubscribe", off: "punsubscribe" },
} as const;

/** What a subscription takes in memory beside its name: measured, with its set of subscribers some 700. */
const SUBSCRIPTION_BYTES = 700;

export const LONG_CHANNEL = `channel name is longer than ${limits.channelNameBytes} bytes`;

/** The subscribers of a name. */
interface Listeners {
  readonly clients: Set<Client>;
  /** Of a pattern. */
  readonly glob: Glob | undefined;
}

/**
 * Passes messages between the clients of this port, as Redis does ("pubsub.c"). Sentinels find each other this
 * way. Names are latin1 text, one character a byte.
 */
export class PubSub {
  readonly #listeners: Record<Kind, Map<string, Listeners>> = {
    channels: new Map(),
    patterns: new Map(),
  };
  /** The patterns of all clients; one that two have counts twice. */
  #patterns = 0;

  /** SUBSCRIBE and PSUBSCRIBE. Returns why a name is refused, and with it those after it; undefined: none is. */
  subscribe(client: Client, kind: Kind, names: readonly string[]): string | undefined {
    for (const name of names) {
      if (!client[kind].has(name)) {
        const refused = this.#whyNot(client, kind, name);
        if (refused !== undefined) return refused;
        this.#add(client, kind, name);
      }
      this.#confirm(client, WORDS[kind].on, name);
    }
    return undefined;
  }

  #whyNot(client: Client, kind: Kind, name: string): string | undefined {
    const { clientSubscriptions, clientPatterns, patterns, patternBytes } = limits;
    if (client.subscriptions >= clientSubscriptions) {
      return `too many subscriptions: at most ${clientSubscriptions} a client`;
    }
    if (kind === "channels") {
      return name.length > limits.channelNameBytes ? LONG_CHANNEL : undefined;
    }
    if (name.length > patternBytes) return `pattern is longer than ${patternBytes} bytes`;
    if (client.patterns.size >= clientPatterns) {
      return `too many patterns: at most ${clientPatterns} a client`;
    }
    if (this.#patterns < patterns) return undefined;
    return `too many patterns: at most ${patterns} of all clients together`;
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
    const direct = this.#listeners.channels.get(channel);
    if (direct !== undefined) {
      receivers += sendTo(direct.clients, [bulk("message"), bulk(name), bulk(message)]);
    }
    for (const [pattern, { clients, glob }] of this.#listeners.patterns) {
      if (glob?.matches(channel) !== true) continue;
      const parts = [bulk("pmessage"), bulk(latin1(pattern)), bulk(name), bulk(message)];
      receivers += sendTo(clients, parts);
    }
    return receivers;
  }

  #add(client: Client, kind: Kind, name: string): void {
    const isPattern = kind === "patterns";
    client[kind].add(name);
    client.subscribedBytes += name.length + SUBSCRIPTION_BYTES;
    if (isPattern) this.#patterns++;
    const known = this.#listeners[kind].get(name);
    if (known !== undefined) return void known.clients.add(client);
    const glob = isPattern ? new Glob(name) : undefined;
    this.#listeners[kind].set(name, { clients: new Set([client]), glob });
  }

  #drop(client: Client, kind: Kind, name: string): void {
    if (!client[kind].delete(name)) return;
    client.subscribedBytes -= name.length + SUBSCRIPTION_BYTES;
    if (kind === "patterns") this.#patterns--;
    const listeners = this.#listeners[kind].get(name);
    listeners?.clients.delete(client);
    if (listeners?.clients.size === 0) this.#listeners[kind].delete(name);
  }

  #confirm(client: Client, what: string, name: string | undefined): void {
    const shown = name === undefined ? nil(client.proto) : bulk(latin1(name));
    client.send(push([bulk(what), shown, integer(client.subscriptions)], client.proto));
  }
}

/** Sends them one message, of which there is one copy for all. Returns how many they are. */
function sendTo(clients: ReadonlySet<Client>, parts: readonly Uint8Array[]): number {
  const encoded = new Map<Proto, Uint8Array>();
  let receivers = 0;
  for (const client of clients) {
    const message = encoded.get(client.proto) ?? push(parts, client.proto);
    encoded.set(client.proto, message);
    client.send(message);
    receivers++;
  }
  return receivers;
}

function latin1(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}
