import { bulk, error, integer, nil, simple, verbatim } from "../resp/reply.ts";
import type { Client } from "./clients/client.ts";
import { type Call, type Command, setName, subcommandHelp, wrongArgs } from "./call.ts";

const OK = simple("OK");

export const clientCommands: readonly Command[] = [
  {
    name: "client",
    arity: -2,
    flags: ["noscript"],
    changes: ["kill"],
    summary: "Lists, names and closes the connections of clients.",
    run: clientCommand,
  },
];

/** CLIENT and its subcommands ("Redis 7.2, networking.c, clientCommand"). */
function clientCommand(call: Call): Uint8Array {
  const { client, context, args } = call;
  const [what = "", ...rest] = args;
  switch (what.toUpperCase()) {
    case "ID":
      return rest.length === 0 ? integer(client.id) : wrongArgs("client|id");
    case "GETNAME":
      if (rest.length > 0) return wrongArgs("client|getname");
      return client.name === "" ? nil(client.proto) : bulk(client.name);
    case "SETNAME":
      return rest.length === 1 ? (setName(client, rest[0]!) ?? OK) : wrongArgs("client|setname");
    case "SETINFO":
      return setInfo(client, rest);
    case "INFO":
      return verbatim(client.describe(context.now()), client.proto);
    case "LIST":
      return list(call, rest);
    case "KILL":
      return kill(call, rest);
    case "NO-EVICT":
    case "NO-TOUCH":
      // No keys are served here, so there is nothing to evict or touch.
      return /^(on|off)$/i.test(rest[0] ?? "") && rest.length === 1
        ? OK
        : error("ERR syntax error");
    case "HELP":
      return subcommandHelp("CLIENT", [
        ["ID", "Returns the id of this connection."],
        ["GETNAME", "Returns the name of this connection."],
        ["SETNAME <name>", "Names this connection."],
        ["SETINFO <LIB-NAME|LIB-VER> <value>", "Stores the name or version of the client library."],
        ["INFO", "Returns details about this connection."],
        [
          "LIST [TYPE <type>|ID <id> [<id> ...]]",
          "Returns details about all connections, or those that match.",
        ],
        [
          "KILL <addr>|<filter> <value> [...]",
          "Closes the connection with this address, or those that match.",
        ],
        ["NO-EVICT|NO-TOUCH <ON|OFF>", "Does nothing: this port serves no keys."],
      ]);
    default:
      return error(`ERR unknown subcommand '${what.slice(0, 60)}'. Try CLIENT HELP.`);
  }
}

/** CLIENT SETINFO LIB-NAME|LIB-VER value. */
function setInfo(client: Client, [attribute = "", value, ...more]: string[]): Uint8Array {
  if (value === undefined || more.length > 0) return wrongArgs("client|setinfo");
  const isName = /^lib-name$/i.test(attribute);
  if (!isName && !/^lib-ver$/i.test(attribute)) {
    return error(`ERR Unrecognized option '${attribute.slice(0, 60)}'`);
  }
  if (!/^[!-~]{0,200}$/.test(value)) {
    return error(
      `ERR ${attribute.toLowerCase()} cannot contain spaces, newlines or special characters.`,
    );
  }
  if (isName) client.libName = value;
  else client.libVersion = value;
  return OK;
}

const TYPES = ["normal", "pubsub", "replica", "slave", "master"];

/** TYPE of CLIENT LIST and KILL; `slave` is the older name of `replica`. */
function isOf(type: string): (one: Client) => boolean {
  return (one) => one.type === (type === "slave" ? "replica" : type);
}

/** CLIENT LIST [TYPE type | ID id …]. */
function list({ client, context }: Call, rest: string[]): Uint8Array {
  const words = rest.map((word) => word.toLowerCase());
  let wanted = (_one: Client) => true;
  if (words[0] === "type" && words.length === 2) {
    const type = words[1]!;
    if (!TYPES.includes(type)) return error(`ERR Unknown client type '${type.slice(0, 60)}'`);
    wanted = isOf(type);
  } else if (words[0] === "id" && words.length > 1) {
    const ids = new Set(words.slice(1));
    if (![...ids].every((id) => /^[1-9]\d{0,15}$/.test(id))) return error("ERR Invalid client ID");
    wanted = (one) => ids.has(String(one.id));
  } else if (words.length > 0) {
    return error("ERR syntax error");
  }
  const nowMs = context.now();
  const lines = [...context.clients].filter(wanted).map((one) => one.describe(nowMs));
  return verbatim(lines.join(""), client.proto);
}

/** `KILL addr` closes one connection; `KILL filter value …` returns how many it closed. */
function kill({ client, context }: Call, rest: string[]): Uint8Array {
  if (rest.length === 0) return wrongArgs("client|kill");
  if (rest.length === 1) {
    const found = [...context.clients].find((one) => one.address === rest[0]);
    if (found === undefined) return error("ERR No such client");
    close(found, client);
    return OK;
  }
  if (rest.length % 2 !== 0) return error("ERR syntax error");
  const tests: ((one: Client) => boolean)[] = [];
  let skipsMe = true;
  for (let at = 0; at < rest.length; at += 2) {
    const value = rest[at + 1]!;
    switch (rest[at]!.toUpperCase()) {
      case "ID":
        if (!/^[1-9]\d{0,15}$/.test(value)) return error("ERR client-id should be greater than 0");
        tests.push((one) => String(one.id) === value);
        break;
      case "ADDR":
        tests.push((one) => one.address === value);
        break;
      case "LADDR":
        tests.push((one) => one.localAddress === value);
        break;
      case "TYPE":
        if (!TYPES.includes(value.toLowerCase())) {
          return error(`ERR Unknown client type '${value.slice(0, 60)}'`);
        }
        tests.push(isOf(value.toLowerCase()));
        break;
      case "USER":
        tests.push(() => value === "default");
        break;
      case "SKIPME":
        if (!/^(yes|no)$/i.test(value)) return error("ERR syntax error");
        skipsMe = value.toLowerCase() === "yes";
        break;
      default:
        return error("ERR syntax error");
    }
  }
  const doomed = [...context.clients].filter(
    (one) => !(skipsMe && one === client) && tests.every((test) => test(one)),
  );
  for (const one of doomed) close(one, client);
  return integer(doomed.length);
}

/** Closes a connection; the own one after the reply is sent. */
function close(one: Client, self: Client): void {
  if (one === self) one.leaving = true;
  else one.kill();
}
