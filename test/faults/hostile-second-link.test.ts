import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { realClock } from "../../src/base/clock.ts";
import { filesIn, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../support/fake-primary.ts";
import { Random } from "../support/fill.ts";
import { encodeCommand } from "../support/resp.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import { say } from "./hostile-stage.ts";
import { mutated, type Speech } from "./mutations.ts";
import { followAgain, halfMadeIn } from "./network-rig.ts";
import { record, type Transcript } from "./transcripts.ts";

/** More cases: `FUZZ_CASES=5000 bun test test/faults/hostile-second-link.test.ts`. */
const CASES = amount("FUZZ_CASES", { sample: 30, full: 150 });
const SEED = seedOf("FUZZ_SEED");

setDefaultTimeout(60_000 + CASES * 2_000);

const SET = encodeCommand(["SET", "key", "value"]);
const BASE = 100;

let transcripts: Transcript[] = [];

beforeAll(async () => {
  transcripts = (await record("redis-7.0")).filter(({ unasked }) => unasked.length > 1);
});

/** The transcript for a second link: with one more REPLCONF, and a snapshot of the followed history. */
function ofSecondLink({ name, answers, unasked }: Transcript, offset: number): Transcript {
  const [pong, ...confs] = answers.slice(0, -1);
  const grant = Buffer.from(`+FULLRESYNC ${REPLID} ${offset}\r\n`);
  return { name, answers: [pong!, Buffer.from("+OK\r\n"), ...confs, grant], unasked };
}

test("mutated transcripts on a second link harm neither the kept generations nor the first link", async () => {
  using dir = tempDir("second-link");
  let speech: Speech | undefined;
  let over = 0;
  await using primary = fakePrimary(async (peer) => {
    if (peer.index === 0) {
      await standardHandshake(peer, { replid: REPLID, offset: BASE });
      return await peer.send(bulkPayload(smallRdb("the first")));
    }
    try {
      await say(peer, speech!);
      await peer.close();
    } finally {
      over++;
    }
  });
  const flags = { "sync-timeout": "150ms", keep: "100000", fsync: "always" };
  let aheadMs = 0;
  const clock = { ...realClock, monotonicMs: () => realClock.monotonicMs() + aheadMs };
  await using following = followAgain(primary.url, dir, flags, clock);
  await following.connected();
  const { replica, path } = following;
  const { directory, renewal } = replica;
  const first = primary.peers[0]!;
  let offset = BASE;
  for (let n = 0; n < CASES; n++) {
    const ours = transcripts.map((one) => ofSecondLink(one, offset));
    speech = mutated(ours, new Random(SEED + n));
    const what = `FUZZ_SEED=${SEED + n} FUZZ_CASES=1: ${speech.changes.join("; ")}`;
    const before = directory.current!.id;
    const log = readFileSync(directory.logPath(before));
    const kept = filesIn(path);
    // One that claimed to be larger than the disk holds up the next ones for a while.
    while (renewal.lackedBytes !== undefined) aheadMs += 5_000;
    renewal.begin("the test");
    await until(() => over > n, { what: `the end of the second link\n${what}` });
    // For a snapshot from a later offset it would wait for the stream; the test doesn't.
    const isOver = () => renewal.runningSeconds === undefined || renewal.state.at === "none";
    await until(isOver, { what: `the end of its session\n${what}` });
    await first.send(SET);
    offset += SET.length;
    await until(() => replica.log!.writtenOffset === offset, { what: `the stream\n${what}` });
    await renewal.stop("the test goes on");

    expect(halfMadeIn(path), what).toEqual([]);
    const now = filesIn(path);
    const logName = directory.logPath(before).slice(path.length + 1);
    for (const [name, content] of Object.entries(kept)) {
      if (name.startsWith("current") || name === logName) continue;
      expect({ name, content: now[name] }, what).toEqual({ name, content });
    }
    const logNow = readFileSync(directory.logPath(before));
    expect(logNow.subarray(0, log.length).equals(log), what).toBe(true);
    const { id } = directory.current!;
    expect(readFileSync(directory.logPath(id)).subarray(-SET.length).equals(SET), what).toBe(true);
    if (id === before) expect(logNow.length, what).toBe(log.length + SET.length);
    expect(renewal.last?.error?.message ?? "none", what).toMatch(/^[\x20-\x7e…]+$/);
    expect(first.isClosed, what).toBe(false);
  }
  expect(renewal.counts.ok + renewal.counts.failed).toBeGreaterThan(CASES / 2);
  expect(await following.stop()).toBeUndefined();
});
