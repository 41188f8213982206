import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { loadSettings } from "../../src/config/load-settings.ts";
import { parsePrimaryUrl } from "../../src/config/primary-url.ts";
import type { ReplicaContext } from "../../src/port/call.ts";
import { Client } from "../../src/port/clients/client.ts";
import { realClock } from "../../src/base/clock.ts";
import { COMMANDS } from "../../src/port/command-table.ts";
import { answer } from "../../src/port/dispatch.ts";
import { assemble } from "../../src/program/assemble.ts";
import { noCounts } from "../../src/monitor/port-counts.ts";
import { LoginThrottle, OwnPassword } from "../../src/port/clients/logins.ts";
import { PubSub } from "../../src/port/clients/pubsub.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { tempDir } from "../support/temp.ts";

const SEED = 20261125;
const PASSWORD = "sesame";

const dir = tempDir("commands");
await Bun.write(dir.file("password"), PASSWORD);
const settings = loadSettings({
  flags: new Map([
    ["dir", dir.file("data")],
    ["port", "0"],
    ["requirepass-file", dir.file("password")],
  ]),
  env: {},
});
// The replica does not run, so no primary is connected to, even after REPLICAOF.
const primary = parsePrimaryUrl("redis://127.0.0.1:1");
const { replica, status, port, close } = assemble(primary, realDisk, realClock, settings, "1.2.3");

afterAll(() => {
  port.stop();
  close();
  dir.remove();
});

/** Clients that record everything that they are sent. */
class Rig {
  readonly clients = new Set<Client>();
  readonly sent = new Map<Client, Uint8Array[]>();
  nowMs = 1_000;
  readonly context: ReplicaContext = {
    status,
    replica,
    commands: COMMANDS,
    pubsub: new PubSub(),
    clients: this.clients,
    maxClients: 1_000,
    logins: new LoginThrottle(),
    mayChange: true,
    ownPassword: new OwnPassword(settings.requirepass!),
    settings,
    version: "1.2.3",
    port: 6380,
    counts: noCounts(),
    now: () => (this.nowMs += 10),
    sentinelGoneAtMs: () => -Infinity,
    alarm: () => undefined,
    rewrite: async () => undefined,
    shutdown: () => undefined,
  };

  connect(): Client {
    const id = this.clients.size + 1;
    const address = `127.0.0.1:${id}`;
    const about = { id, address, localAddress: "127.0.0.1:6380", nowMs: 0, needsLogin: true };
    const sent: Uint8Array[] = [];
    const client: Client = new Client(about, {
      send: (reply) => sent.push(reply),
      offer: (bytes) => sent.push(bytes) && bytes.length,
      proceed: () => undefined,
      end: () => this.clients.delete(client),
    });
    this.clients.add(client);
    this.sent.set(client, sent);
    return client;
  }

  /** Returns what the client was sent since the last call. */
  take(client: Client): Buffer {
    return Buffer.concat(this.sent.get(client)!.splice(0));
  }
}

const COUNTED = new Map([
  ["*", 1],
  ["%", 2],
  [">", 1],
]);

/** Returns where the value at `start` ends. @throws Error where it is not valid RESP of that protocol. */
function endOfValue(bytes: Buffer, start: number, proto: 2 | 3): number {
  const lineEnd = bytes.indexOf("\r\n", start);
  const type = String.fromCharCode(bytes[start] ?? 0);
  const line = bytes.toString("latin1", start + 1, lineEnd);
  let end = lineEnd + 2;
  const whole = () => {
    if (!/^(-1|\d+)$/.test(line)) throw new Error(`${type}${line} is no number`);
    return Number(line);
  };
  if (lineEnd < 0 || !(proto === 2 ? "+-:$*" : "+-:$*%>=_#").includes(type)) {
    throw new Error(`RESP${proto} has no ${JSON.stringify(bytes.toString("latin1", start))}`);
  }
  const each = COUNTED.get(type);
  if (each !== undefined) {
    for (let left = whole() * each; left > 0; left--) end = endOfValue(bytes, end, proto);
  } else if (type === "$" || type === "=") {
    const length = whole();
    if (length === -1) return end;
    end += length + 2;
    if (bytes.toString("latin1", end - 2, end) !== "\r\n") throw new Error("a bulk has no end");
  } else if (type === ":" && !/^-?\d+$/.test(line)) {
    throw new Error(`:${line} is no integer`);
  } else if (/[\r\n]/.test(line)) {
    throw new Error("a line has an end within");
  }
  return end;
}

/** Counts the values. */
function countValues(bytes: Buffer, proto: 2 | 3): number {
  let count = 0;
  for (let at = 0; at < bytes.length; count++) at = endOfValue(bytes, at, proto);
  return count;
}

const VERBS =
  "ping echo auth hello quit reset select info role replicaof slaveof config lastsave multi exec discard subscribe psubscribe unsubscribe punsubscribe publish client command dbsize time shutdown get slowlog latency post";
const WORDS =
  "id setname getname setinfo list kill info no-evict no-touch get set rewrite resetstat count docs lib-name lib-ver type normal pubsub addr laddr user default skipme yes no one on off all 0 1 2 3 16 -1 6379 127.0.0.1:1 127.0.0.1 ::1 news n* * maxclients 1000 now force save nosave abort len reset latest history histogram";

const verb = fc.constantFrom(...VERBS.split(" "));
const word = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...WORDS.split(" "), "AUTH", PASSWORD) },
  { weight: 2, arbitrary: fc.constantFrom("", "\r\n", "a\r\nb", "\0", "é", "x".repeat(2_000)) },
  { weight: 2, arbitrary: fc.string({ unit: "binary-ascii", maxLength: 12 }) },
);
const bytesOf = (words: readonly string[]) => words.map((text) => Buffer.from(text, "latin1"));
const anyWords = fc.oneof(
  fc.tuple(verb, fc.array(word, { maxLength: 5 })).map(([first, rest]) => [first, ...rest]),
  fc
    .array(fc.uint8Array({ maxLength: 8 }), { minLength: 1, maxLength: 4 })
    .map((words) => words.map((one) => Buffer.from(one).toString("latin1"))),
);
const LOGIN = ["auth", PASSWORD];

test("answers any words with one well-formed reply in the client's protocol", () => {
  const login = fc.constantFrom([], [LOGIN], [["hello", "3", "auth", "default", PASSWORD]]);
  const run = fc.tuple(login, fc.array(fc.tuple(fc.nat(1), anyWords), { maxLength: 30 }));
  fc.assert(
    fc.property(run, ([first, then]) => {
      const rig = new Rig();
      const pair = [rig.connect(), rig.connect()];
      const commands = [...first.map((words) => [0, words] as const), ...then];
      for (const [who, words] of commands) {
        const client = pair[who]!;
        if (client.leaving || !rig.clients.has(client)) continue;
        for (const one of pair) rig.take(one);
        const subscribes = /^p?(un)?subscribe$/.test(words[0]!.toLowerCase());
        const before = client.proto;
        const reply = answer(rig.context, client, bytesOf(words));
        const proto = before === 3 ? 3 : client.proto;
        const own = Buffer.concat([rig.take(client), reply ?? Buffer.alloc(0)]);
        const count = countValues(own, proto);
        const isSilent = client.leaving || !rig.clients.has(client);
        // A client that publishes to itself gets the message in addition to the reply.
        const atLeast = isSilent ? 0 : 1;
        expect(count).toBeGreaterThanOrEqual(atLeast);
        if (!subscribes && words[0]!.toLowerCase() !== "publish") {
          expect(count).toBeLessThanOrEqual(client.subscriptions > 0 ? 1_000 : 1);
        }
        for (const one of pair) countValues(rig.take(one), one.proto);
      }
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});

test("refuses everything but a login before login", () => {
  const allowed = /^\+(OK|RESET)\r\n$|^-(NOAUTH|ERR|WRONGPASS|NOPROTO) [^\r\n]*\r\n$/;
  const guesses = anyWords.filter((words) => !words.includes(PASSWORD));
  fc.assert(
    fc.property(fc.array(guesses, { maxLength: 20 }), (commands) => {
      const rig = new Rig();
      const client = rig.connect();
      for (const words of commands) {
        if (client.leaving || !rig.clients.has(client)) break;
        const reply = answer(rig.context, client, bytesOf(words));
        const own = Buffer.concat([rig.take(client), reply ?? Buffer.alloc(0)]).toString("latin1");
        if (rig.clients.has(client)) expect(own).toMatch(allowed);
        expect(client.login.isLoggedIn).toBe(false);
        expect([client.name, client.subscriptions]).toEqual(["", 0]);
      }
    }),
    { seed: SEED, numRuns: 2_000 },
  );
});

test("CLIENT LIST prints one line for each client, whatever its names", () => {
  const name = fc.string({ unit: "binary-ascii", maxLength: 20 });
  fc.assert(
    fc.property(name, name, name, (own, library, version) => {
      const rig = new Rig();
      const client = rig.connect();
      const other = rig.connect();
      for (const words of [
        LOGIN,
        ["client", "setname", own],
        ["client", "setinfo", "lib-name", library],
        ["client", "setinfo", "lib-ver", version],
      ]) {
        answer(rig.context, client, bytesOf(words));
      }
      answer(rig.context, other, bytesOf(LOGIN));
      const list = Buffer.from(answer(rig.context, other, bytesOf(["client", "list"]))!);
      const lines = list.toString("latin1").split("\r\n")[1]!.trimEnd().split("\n");
      expect(lines).toHaveLength(2);
      for (const line of lines) expect(line).toMatch(/^id=\d( [a-z-]+=[!-~]*)+$/);
    }),
    { seed: SEED, numRuns: 500 },
  );
});
