import { expect, test } from "bun:test";
import { LogRewriter } from "../../../src/store/rewrite/log-rewriter.ts";
import { RefusedCommands } from "../../../src/store/rewrite/refused-commands.ts";
import { sweepCommand } from "../../../src/store/rewrite/slot-sweep.ts";
import { encodeCommands } from "../../../src/resp/encode.ts";
import { encodeCommand } from "../../support/resp.ts";

const JOB = "1".repeat(40);
const OTHER = "2".repeat(40);
const NODE = "a".repeat(40);
const bytes = (...parts: (string | Uint8Array)[]) =>
  Buffer.concat(
    parts.map((part) => (typeof part === "string" ? encodeCommand(part.split(" ")) : part)),
  );
const sweep = (...ranges: [number, number][]) => encodeCommands([sweepCommand(ranges)]);
const establish = (job: string, ranges: string) =>
  `CLUSTER SYNCSLOTS ESTABLISH SOURCE ${NODE} NAME ${job} SLOTSRANGE ${ranges}`;
const finish = (job: string, state: string) =>
  `CLUSTER SYNCSLOTS FINISH STATE ${state} NAME ${job} MESSAGE none`;

/** Rewrites a log in blocks of so many bytes, and what comes at its end. */
function rewrite(log: Uint8Array, size = log.length, magic: "REDIS" | "VALKEY" = "REDIS") {
  const rule = new RefusedCommands({ magic });
  const rewriter = new LogRewriter([rule]);
  const out: Uint8Array[] = [];
  for (let at = 0; at < log.length; at += size) {
    const pieces = rewriter.push(Uint8Array.from(log.subarray(at, at + size)));
    out.push(...pieces.map((piece) => Uint8Array.from(piece)));
  }
  out.push(encodeCommands(rule.atEnd()));
  return { text: Buffer.concat(out).toString("latin1"), rule };
}

const text = (...parts: (string | Uint8Array)[]) => bytes(...parts).toString("latin1");

const LOG = bytes(
  "SELECT 0",
  `CLUSTER SETSLOT 5 IMPORTING ${NODE}`,
  "SET a 1",
  "trimslots ranges 2 0 10 20 20",
  "MULTI",
  establish(JOB, "30 40 50 50"),
  "OPINFO x",
  "SET b 1",
  "EXEC",
  "CLUSTER SYNCSLOTS ACK",
  "SET c 1",
  "CLUSTER SYNCSLOTS SNAPSHOT-EOF",
  finish(JOB, "FAILED"),
  establish(OTHER, "60 70"),
  finish(OTHER, "SUCCESS"),
  establish(JOB, "7 7 9 9"),
  "SET d CLUSTER",
);
const REWRITTEN = text(
  "SELECT 0",
  "SET a 1",
  sweep([0, 10], [20, 20]),
  "MULTI",
  "SET b 1",
  "EXEC",
  "SET c 1",
  sweep([30, 40], [50, 50]),
  "SET d CLUSTER",
  sweep([7, 7], [9, 9]),
);

test("leaves out what not every server loads and keeps its effect, wherever the log is cut into blocks", () => {
  for (let size = 1; size <= LOG.length; size++) {
    const { text: out, rule } = rewrite(LOG, size);
    expect([size, out]).toEqual([size, REWRITTEN]);
    expect(rule.leftOutCommands).toBe(10);
    expect(rule.sweeps).toBe(3);
  }
});

test("a migration that the snapshot may have begun is ended by the server that read it", () => {
  const log = bytes("SELECT 0", finish(JOB, "FAILED"), "SET a 1");
  expect(rewrite(log, log.length, "VALKEY").text).toBe(log.toString("latin1"));
  expect(rewrite(log, log.length, "REDIS").text).toBe(text("SELECT 0", "SET a 1"));
});

test("a slot belongs to the migration that began last", () => {
  const log = bytes(establish(JOB, "0 9"), establish(OTHER, "5 14"), finish(JOB, "CANCELLED"));
  expect(rewrite(log).text).toBe(text(sweep([0, 4]), sweep([5, 14])));
});

test.each([
  "TRIMSLOTS",
  "TRIMSLOTS RANGES",
  "TRIMSLOTS RANGES 2 0 1",
  "TRIMSLOTS RANGES 1 5 4",
  "TRIMSLOTS RANGES 1 0 16384",
  "TRIMSLOTS OTHER 1 0 1",
  "TRIMSLOTS RANGES 1000000000000 0 1",
])("%s stays, since its effect isn't known", (command) => {
  expect(rewrite(bytes(command)).text).toBe(text(command));
});

test.each([
  "CLUSTER",
  "CLUSTER SYNCSLOTS",
  "CLUSTER SYNCSLOTS ESTABLISH",
  "CLUSTER SYNCSLOTS ESTABLISH NAME",
  "CLUSTER SYNCSLOTS FINISH STATE FAILED",
  "CLUSTER SETSLOT",
  "CLUSTER SOMETHING NEW",
  `${establish(JOB, "x")}`,
  `${establish(JOB, "1")}`,
  finish(JOB, "FAILED"),
])("%s goes, and removes nothing", (command) => {
  const { text: out, rule } = rewrite(bytes(command));
  expect(out).toBe("");
  expect(rule.sweeps).toBe(0);
});
