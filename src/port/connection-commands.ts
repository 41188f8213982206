import { logger } from "../base/logger.ts";
import { array, bulk, error, integer, map, push, simple } from "../resp/reply.ts";
import { type Call, type Command, type PortContext, setName, wrongArgs } from "./call.ts";
import type { Client } from "./clients/client.ts";
import { SPOKEN_VERSION } from "../monitor/process-info.ts";

const OK = simple("OK");
const WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled.";
/** Redis's default. None has keys here. */
const DATABASES = 16;

export const connectionCommands: readonly Command[] = [
  {
    name: "ping",
    arity: -1,
    flags: ["fast"],
    whileSubscribed: true,
    summary: "Returns PONG, or the message.",
    run: ping,
  },
  {
    name: "echo",
    arity: 2,
    flags: ["fast"],
    summary: "Returns the message.",
    run: ({ bytes }) => bulk(bytes[0]!),
  },
  {
    name: "auth",
    arity: -2,
    flags: ["noscript", "fast", "no_auth"],
    early: true,
    summary: "Logs in.",
    run: (call) => inItsTime(call, () => auth(call)),
  },
  {
    name: "hello",
    arity: -1,
    flags: ["noscript", "fast", "no_auth"],
    early: true,
    summary: "Chooses the protocol, logs in and names the connection.",
    run: (call) =>
      call.args.some((word) => word.toUpperCase() === "AUTH")
        ? inItsTime(call, () => hello(call))
        : hello(call),
  },
  {
    name: "select",
    arity: 2,
    flags: ["fast"],
    summary: "Chooses a database. None has keys on this port.",
    run: select,
  },
  {
    name: "reset",
    arity: 1,
    flags: ["noscript", "fast", "no_auth"],
    early: true,
    unqueued: true,
    whileSubscribed: true,
    summary: "Resets the connection to its state when it was new.",
    run: reset,
  },
  {
    name: "quit",
    arity: -1,
    flags: ["fast", "no_auth"],
    early: true,
    unqueued: true,
    whileSubscribed: true,
    summary: "Closes the connection.",
    run: ({ client }) => {
      client.leaving = true;
      return OK;
    },
  },
];

function ping({ client, args, bytes }: Call): Uint8Array {
  if (args.length > 1) return wrongArgs("ping");
  if (client.proto === 2 && client.subscriptions > 0) {
    return push([bulk("pong"), bulk(bytes[0] ?? "")], 2);
  }
  return bytes[0] === undefined ? simple("PONG") : bulk(bytes[0]);
}

function auth({ client, context, args }: Call): Uint8Array {
  const [user, password] = args.length === 1 ? ["default", args[0]!] : [args[0], args[1]];
  if (args.length > 2) return error("ERR syntax error");
  if (context.ownPassword === undefined) {
    // Without a password set, the default user accepts any, where it is named. As in Redis.
    if (args.length === 2) return user === "default" ? OK : error(WRONG_PASSWORD);
    return error(
      "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
    );
  }
  const right = context.ownPassword.read();
  if (right === undefined) return error("ERR logins are refused: see this replica's log");
  // The argument is latin1, one character a byte; the setting is text.
  const isRight = same(password!, Buffer.from(right).toString("latin1"));
  if (!isRight || user !== "default") return refuseLogin(client, context);
  context.logins.succeeded(hostOf(client));
  client.logIn();
  return OK;
}

/**
 * Runs a command that logs in, now or once its answer has waited. Nobody is locked out by others behind the same proxy
 * or NAT: the right password waits as the wrong ones do, and is accepted. Who is logged in is not held up.
 */
function inItsTime(
  { client, context }: Call,
  run: () => Uint8Array | undefined,
): Uint8Array | undefined {
  const { logins, ownPassword, now } = context;
  const waits = ownPassword !== undefined && !client.login.isLoggedIn;
  const waitMs = waits ? logins.waitMs(hostOf(client), now()) : 0;
  if (waitMs === 0) return run();
  const over = logins.wait();
  const timer = setTimeout(() => {
    client.onGone = () => undefined;
    over();
    client.unblock(run);
  }, waitMs);
  client.blocked = true;
  client.onGone = () => {
    clearTimeout(timer);
    over();
  };
  return undefined;
}

/** Counts a wrong password, and disconnects the client where too many came from there. */
function refuseLogin(client: Client, { logins, now }: PortContext): Uint8Array {
  const host = hostOf(client);
  const isSuspect = logins.isSuspect(host, now());
  const reached = logins.failed(host, now());
  if (reached !== undefined) {
    const from = reached === "all" ? "many addresses" : host;
    logger.warn(
      `too many wrong passwords from ${from}: for some seconds, logins wait for their answer`,
    );
  }
  if (!isSuspect) return error(WRONG_PASSWORD);
  client.leaving = true;
  return error("ERR too many wrong passwords from your address: check the password");
}

function hostOf({ address }: Client): string {
  return address.slice(0, address.lastIndexOf(":"));
}

/** Compares in constant time. */
function same(given: string, right: string): boolean {
  const digest = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest();
  return crypto.timingSafeEqual(digest(given), digest(right));
}

/** HELLO [2|3] [AUTH user password] [SETNAME name] ("Redis 7.2, networking.c, helloCommand"). */
function hello(call: Call): Uint8Array {
  const { client } = call;
  const words = [...call.args];
  const asked = words.shift();
  if (asked !== undefined && !/^-?\d{1,18}$/.test(asked)) {
    return error("ERR Protocol version is not an integer or out of range");
  }
  if (asked !== undefined && asked !== "2" && asked !== "3") {
    return error("NOPROTO unsupported protocol version");
  }
  let name: string | undefined;
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const option = word.toUpperCase();
    if (option === "AUTH" && words.length >= 2) {
      const reply = auth({ ...call, args: words.splice(0, 2) });
      if (reply[0] === 0x2d) return reply;
    } else if (option === "SETNAME" && words.length >= 1) {
      name = words.shift();
    } else {
      return error(`ERR Syntax error in HELLO option '${word.slice(0, 60)}'`);
    }
  }
  if (!client.login.isLoggedIn) {
    return error(
      "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
    );
  }
  if (name !== undefined) {
    const refused = setName(client, name);
    if (refused !== undefined) return refused;
  }
  if (asked !== undefined) client.proto = asked === "3" ? 3 : 2;
  const fields: [string, Uint8Array][] = [
    ["server", bulk("redis")],
    ["version", bulk(SPOKEN_VERSION)],
    ["proto", integer(client.proto)],
    ["id", integer(client.id)],
    ["mode", bulk("standalone")],
    ["role", bulk("replica")],
    ["modules", array([])],
  ];
  return map(
    fields.map(([key, value]) => [bulk(key), value]),
    client.proto,
  );
}

function reset({ client, context }: Call): Uint8Array {
  context.pubsub.forget(client);
  client.reset();
  return simple("RESET");
}

function select({ client, args }: Call): Uint8Array {
  const database = Number(args[0]);
  if (!/^-?\d{1,10}$/.test(args[0]!)) return error("ERR value is not an integer or out of range");
  if (database < 0 || database >= DATABASES) return error("ERR DB index is out of range");
  client.database = database;
  return OK;
}
