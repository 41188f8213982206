import type { Random } from "./fill.ts";
import type { RespClient } from "./resp-client.ts";
import type { Reply } from "./resp.ts";

/** An argument of a command, as COMMAND DOCS describes it. */
interface Argument {
  readonly name: string;
  readonly type: string;
  readonly token: string | undefined;
  readonly flags: readonly string[];
  readonly inner: readonly Argument[];
}

/** A command or a subcommand: the words it begins with, and what may follow. */
export interface DocumentedCommand {
  readonly words: readonly string[];
  readonly arguments: readonly Argument[];
}

/** The commands of a server and their subcommands, as its COMMAND DOCS has them. */
export async function documentedCommands(client: RespClient): Promise<DocumentedCommand[]> {
  return commandsIn(fieldsOf(await client.send("COMMAND", "DOCS")), []);
}

function commandsIn(docs: ReadonlyMap<string, Reply>, before: readonly string[]) {
  const commands: DocumentedCommand[] = [];
  for (const [name, doc] of docs) {
    const fields = fieldsOf(doc);
    const words = [...before, name.split("|").at(-1)!];
    const inner = fields.get("subcommands");
    if (inner === undefined) {
      commands.push({ words, arguments: argumentsIn(fields.get("arguments")) });
    } else commands.push(...commandsIn(fieldsOf(inner), words));
  }
  return commands;
}

function argumentsIn(reply: Reply | undefined): Argument[] {
  if (!Array.isArray(reply)) return [];
  return reply.map((one: Reply) => {
    const fields = fieldsOf(one);
    const flags = fields.get("flags");
    const token = fields.get("token");
    return {
      name: String(fields.get("name")),
      type: String(fields.get("type")),
      token: token === undefined ? undefined : String(token),
      flags: Array.isArray(flags) ? flags.map(String) : [],
      inner: argumentsIn(fields.get("arguments")),
    };
  });
}

/** A map of RESP2: names and values in turn. */
function fieldsOf(reply: Reply): Map<string, Reply> {
  const fields = new Map<string, Reply>();
  if (!Array.isArray(reply)) return fields;
  for (let at = 0; at < reply.length; at += 2) fields.set(String(reply[at]), reply[at + 1]!);
  return fields;
}

/** Makes a command with some of the options, and one to three of what may come more than once. */
export function madeCommand(command: DocumentedCommand, random: Random): string[] {
  const words: string[] = [];
  for (const argument of command.arguments) append(words, argument, random);
  return [...command.words, ...words];
}

function append(words: string[], argument: Argument, random: Random): void {
  if (argument.flags.includes("optional") && random.below(2) === 0) return;
  const times = argument.flags.includes("multiple") ? 1 + random.below(3) : 1;
  // The number of keys or ids stands right before them.
  if (argument.flags.includes("multiple") && words.at(-1) === COUNT) {
    words[words.length - 1] = String(times);
  }
  for (let time = 0; time < times; time++) {
    if (argument.token !== undefined && (time === 0 || argument.flags.includes("multiple_token"))) {
      if (argument.token !== "" || argument.type === "pure-token") words.push(argument.token);
    }
    switch (argument.type) {
      case "pure-token":
        break;
      case "block":
        for (const inner of argument.inner) append(words, inner, random);
        break;
      case "oneof":
        append(words, argument.inner[random.below(argument.inner.length)]!, random);
        break;
      default:
        words.push(valueOf(argument, random));
    }
  }
}

const COUNT = "COUNT-OF-WHAT-FOLLOWS";

function valueOf({ name, type }: Argument, random: Random): string {
  if (name.startsWith("num")) return COUNT;
  switch (type) {
    case "integer":
    case "unix-time":
      return String(1 + random.below(9));
    case "double":
      return `${random.below(90)}.5`;
    case "key":
      return `key-${random.below(1_000_000)}`;
    default:
      // What looks like an option must not be taken for one.
      return random.below(4) === 0 ? "store" : `word-${random.below(1000)}`;
  }
}
