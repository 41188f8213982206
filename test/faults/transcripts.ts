import { RawLink } from "../demo/raw-link.ts";
import { fillAllTypes } from "../support/fill.ts";
import { encodeCommand } from "../support/resp.ts";
import { type ServerKind, startServer } from "../support/servers.ts";
import { until } from "../support/wait.ts";

/** What a primary sent on one connection: a reply to each command, then everything else. */
export interface Transcript {
  readonly name: string;
  /** The replies to PING, three REPLCONF and PSYNC: complete lines. */
  readonly answers: readonly Buffer[];
  /** The bulk header, the payload and the stream; for a partial resync only the stream. */
  readonly unasked: readonly Buffer[];
}

/** The last command of the recorded stream. */
const LAST_WORD = "the last word of the record";
const ASKED = [
  ["PING"],
  ["REPLCONF", "listening-port", 6380],
  ["REPLCONF", "capa", "eof", "capa", "psync2"],
  ["REPLCONF", "version", "255.255.255"],
];

/** Records a real server: a full resync with each form of payload, and a partial resync. */
export async function record(kind: ServerKind): Promise<Transcript[]> {
  await using server = await startServer(kind, { args: ["--repl-backlog-size", "4mb"] });
  await fillAllTypes(server, { keys: 100 });
  const write = async () => {
    await using client = await server.connect();
    await client.send("SELECT", 3);
    await client.send("SET", "key", "\r\n*1\r\n$4\r\nPING\r\n");
    await client.send("INCR", "counter");
    await client.exchange([["MULTI"], ["LPUSH", "list", 1, 2, 3], ["SADD", "set", "a"], ["EXEC"]]);
    await client.send("SET", "expiring", 1, "EX", 1000);
    // Makes it send GETACK.
    await client.send("WAIT", 1, 10);
    await client.send("PUBLISH", "channel", LAST_WORD);
  };
  const ask = async (link: RawLink, psync: readonly (string | number)[]) => {
    const answers: Buffer[] = [];
    for (const words of [...ASKED, ["PSYNC", ...psync]]) {
      link.send(encodeCommand(words).toString("latin1"));
      const { line } = await link.lineAfterKeepalives();
      answers.push(Buffer.from(`${line}\r\n`, "latin1"));
    }
    return answers;
  };
  const stream = async (link: RawLink) => {
    await until(async () => (await server.info("replication"))["slave0"]?.includes("online"), {
      what: "the record's replica to be online",
    });
    await write();
    // After a diskless payload the stream waits for this.
    link.send(encodeCommand(["REPLCONF", "ACK", 0]).toString("latin1"));
    const before = await link.until(LAST_WORD);
    return Buffer.concat([before, Buffer.from(`${LAST_WORD}\r\n`)]);
  };
  const alone = async () =>
    await until(async () => (await server.info("replication"))["connected_slaves"] === "0", {
      what: "the end of the record before",
    });

  const transcripts: Transcript[] = [];
  let position: string[] = [];
  for (const form of ["mark", "length"] as const) {
    await server.send("CONFIG", "SET", "repl-diskless-sync", form === "mark" ? "yes" : "no");
    using link = await RawLink.connect(server.port);
    const answers = await ask(link, ["?", -1]);
    const { line } = await link.lineAfterKeepalives();
    const header = Buffer.from(`${line}\r\n`, "latin1");
    const mark = line.slice("$EOF:".length);
    const payload =
      form === "mark"
        ? Buffer.concat([await link.until(mark), Buffer.from(mark)])
        : await link.bytes(Number(line.slice(1)));
    const unasked = [header, payload, await stream(link)];
    transcripts.push({ name: `${kind}, a payload with its ${form}`, answers, unasked });
    position = answers.at(-1)!.toString().trim().split(" ");
    link[Symbol.dispose]();
    await alone();
  }
  using link = await RawLink.connect(server.port);
  const answers = await ask(link, [position[1]!, Number(position[2]) + 1]);
  const unasked = [await stream(link)];
  transcripts.push({ name: `${kind}, a partial resync`, answers, unasked });
  return transcripts;
}
