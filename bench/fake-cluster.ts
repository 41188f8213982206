/**
 * A cluster of primaries that hold next to nothing, in one process: `bun bench/fake-cluster.ts SHARDS`. Prints the port of
 * the first node. Each line of its input, `COMMANDS SECONDS`, lets every shard send that many SETs a second; a line with
 * the bytes that were sent is the answer.
 */
import { once } from "node:events";
import * as readline from "node:readline";
import { SLOTS } from "../src/cluster/slots/slot-ranges.ts";
import { commandParser } from "./command-parser.ts";

interface Node {
  readonly id: string;
  readonly replid: string;
  readonly port: number;
  readonly first: number;
  readonly last: number;
  readonly followers: Set<Bun.Socket<Peer>>;
  offset: number;
}

interface Peer {
  readonly parse: ReturnType<typeof commandParser>;
}

/** An empty snapshot of version 10, without a checksum. */
const SNAPSHOT = Buffer.concat([Buffer.from("REDIS0010"), Buffer.from([0xff]), Buffer.alloc(8)]);
const SET = Buffer.from(`*3\r\n$3\r\nSET\r\n$7\r\nkey:abc\r\n$64\r\n${"v".repeat(64)}\r\n`);
const PING = Buffer.from("*1\r\n$4\r\nPING\r\n");
const PING_EVERY_MS = 10_000;
const TURN_MS = 10;

const count = Number(process.argv[2] ?? "3");
const width = Math.ceil(SLOTS / count);
const nodes: Node[] = [];
for (let index = 0; index < count; index++) nodes.push(listen(index));

function listen(index: number): Node {
  const digits = index.toString(16).padStart(4, "0");
  const listener = Bun.listen<Peer>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        socket.data = { parse: commandParser() };
        socket.setNoDelay(true);
      },
      data: (socket, bytes) => {
        for (const words of socket.data.parse(bytes)) answer(node, socket, words);
      },
      close: (socket) => void node.followers.delete(socket),
      error: (socket) => void node.followers.delete(socket),
    },
  });
  const node: Node = {
    id: digits.repeat(10),
    replid: digits.repeat(10),
    port: listener.port,
    first: index * width,
    last: Math.min(SLOTS, (index + 1) * width) - 1,
    followers: new Set(),
    offset: 0,
  };
  return node;
}

function answer(node: Node, socket: Bun.Socket<Peer>, words: readonly string[]): void {
  const [name = "", what = ""] = words.map((word) => word.toUpperCase());
  switch (`${name} ${name === "CLUSTER" ? what : ""}`.trim()) {
    case "PING":
      return void socket.write("+PONG\r\n");
    case "REPLCONF":
      if (what !== "ACK") socket.write("+OK\r\n");
      return;
    case "INFO":
      return void socket.write(
        bulk(
          `# Server\r\nrun_id:${node.replid}\r\n# Replication\r\nrole:master\r\nmaster_replid:${node.replid}\r\nmaster_repl_offset:${node.offset}\r\n`,
        ),
      );
    case "CLUSTER INFO":
      return void socket.write(
        bulk(
          `cluster_state:ok\r\ncluster_slots_assigned:${SLOTS}\r\ncluster_known_nodes:${count}\r\ncluster_size:${count}\r\ncluster_current_epoch:${count}\r\n`,
        ),
      );
    case "CLUSTER NODES":
      return void socket.write(bulk(nodes.map((one) => line(one, one === node)).join("")));
    case "CLUSTER SHARDS":
      return void socket.write(shards());
    case "PSYNC":
      socket.write(
        Buffer.concat([
          Buffer.from(`+FULLRESYNC ${node.replid} ${node.offset}\r\n$${SNAPSHOT.length}\r\n`),
          SNAPSHOT,
        ]),
      );
      return void node.followers.add(socket);
    default:
      return void socket.write(`-ERR unknown command '${name}'\r\n`);
  }
}

function line({ id, port, first, last }: Node, isMyself: boolean): string {
  const flags = isMyself ? "myself,master" : "master";
  return `${id} 127.0.0.1:${port}@${port} ${flags} - 0 0 1 connected ${first}-${last}\n`;
}

function shards(): string {
  const rows = nodes.map(({ id, port, first, last }) => {
    const node = `*14\r\n${["id", id].map(bulk).join("")}${bulk("port")}:${port}\r\n${["ip", "127.0.0.1", "endpoint", "127.0.0.1", "role", "master"].map(bulk).join("")}${bulk("replication-offset")}:0\r\n${["health", "online"].map(bulk).join("")}`;
    return `*4\r\n${bulk("slots")}*2\r\n:${first}\r\n:${last}\r\n${bulk("nodes")}*1\r\n${node}`;
  });
  return `*${count}\r\n${rows.join("")}`;
}

function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

function send(node: Node, bytes: Buffer): void {
  node.offset += bytes.length;
  for (const socket of node.followers) socket.write(bytes);
}

setInterval(() => {
  for (const node of nodes) send(node, PING);
}, PING_EVERY_MS);

console.log(nodes[0]!.port);
const input = readline.createInterface({ input: process.stdin });
input.on("line", (text) => {
  const [rate = 0, seconds = 0] = text.split(" ").map(Number);
  const began = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.floor(Math.min(seconds, (performance.now() - began) / 1000) * rate);
    if (due > sent) {
      const bytes = Buffer.concat(Array.from({ length: due - sent }, () => SET));
      for (const node of nodes) send(node, bytes);
      sent = due;
    }
    if (performance.now() - began < seconds * 1000) return;
    clearInterval(timer);
    console.log(JSON.stringify({ bytes: sent * SET.length * count }));
  }, TURN_MS);
});
await once(input, "close");
process.exit(0);
