import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { thrownBy } from "../../support/error-of.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import type { Piece } from "../../../src/store/pieces/piece.ts";
import { type CheckersOptions, PieceCheckers } from "../../../src/store/pieces/piece-checkers.ts";
import { Random } from "../../support/fill.ts";
import { tempDir } from "../../support/temp.ts";

const SEED = 20260105;
const PIECE_BYTES = 1_000;
const CONTENT = new Random(SEED).bytes(20_500);
const WORKER = join(import.meta.dir, "../../../src/store/pieces/piece-worker.ts");

function piecesOf(path: string, bytes = CONTENT.length): Piece[] {
  return Array.from({ length: Math.ceil(bytes / PIECE_BYTES) }, (_, n) => {
    const from = n * PIECE_BYTES;
    const to = Math.min(bytes, from + PIECE_BYTES);
    return { path, from, to, cuts: [], commandsTo: 0 };
  });
}

function rig(options: Partial<CheckersOptions> = {}) {
  const dir = tempDir("pieces");
  const path = dir.file("file");
  writeFileSync(path, CONTENT);
  const stop = new AbortController();
  const checkers = new PieceCheckers({ signal: stop.signal, workers: 2, fromBytes: 0, ...options });
  return {
    dir,
    path,
    stop,
    checkers,
    [Symbol.dispose]: () => {
      checkers[Symbol.dispose]();
      dir.remove();
    },
  };
}

/** The checksums that were handed on, in order. */
async function sumsOf(checkers: PieceCheckers, pieces: Iterable<Piece>) {
  const sums: (bigint | undefined)[] = [];
  const isWhole = await checkers.check(pieces, (_, { crc64s }) => sums.push(crc64s[0]) > 0);
  return { isWhole, sums };
}

const wanted = piecesOf("").map(({ from, to }) => crc64(CONTENT.subarray(from, to)));

test("hands the findings on in the order of the pieces", async () => {
  using at = rig();
  for (let round = 0; round < 3; round++) {
    expect(await sumsOf(at.checkers, piecesOf(at.path))).toEqual({ isWhole: true, sums: wanted });
  }
  const both = [1, 2].map(() => sumsOf(at.checkers, piecesOf(at.path)));
  for (const { sums } of await Promise.all(both)) expect(sums).toEqual(wanted);
});

test("starts its workers again for a piece that comes after a rest", async () => {
  let started = 0;
  const start = () => (started++, new Worker(WORKER));
  using at = rig({ start });
  for (let round = 1; round <= 3; round++) {
    expect((await sumsOf(at.checkers, piecesOf(at.path))).sums).toEqual(wanted);
    expect(started).toBe(2 * round);
    at.checkers.rest();
  }
});

test("asks for no more pieces than it needs, and for none after a refusal", async () => {
  using at = rig();
  let asked = 0;
  const counted = piecesOf(at.path)
    .values()
    .map((piece) => (asked++, piece));
  const taken: number[] = [];
  const isWhole = await at.checkers.check(counted, ({ from }) => taken.push(from) < 3);
  expect([isWhole, taken]).toEqual([false, [0, PIECE_BYTES, 2 * PIECE_BYTES]]);
  expect(asked).toBeLessThanOrEqual(8);
});

test("pays for a large file, where there is more than one core", () => {
  const { signal } = new AbortController();
  using two = new PieceCheckers({ signal, workers: 2 });
  using one = new PieceCheckers({ signal, workers: 1 });
  const large = two.fromBytes;
  expect([two.pays(large - 1), two.pays(large), one.pays(large)]).toEqual([false, true, false]);
});

test("tells of a file that can't be read as on one core", async () => {
  using at = rig();
  const missing = at.dir.file("missing");
  const error = await sumsOf(at.checkers, piecesOf(missing)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ReplicaError);
  expect(error).toMatchObject({
    code: "DISK_FAILED",
    message: expect.stringMatching(/^reading byte 0 of .*missing: .*\(ENOENT\)$/),
  });
  // A regular file of Linux whose first byte can't be read.
  const unreadable = sumsOf(at.checkers, piecesOf("/proc/self/mem", PIECE_BYTES));
  expect(await thrownBy(unreadable)).toThrow(
    "reading byte 0 of /proc/self/mem: the device reports an error: check the disk (EIO)",
  );
  expect((await sumsOf(at.checkers, piecesOf(at.path))).sums).toEqual(wanted);
});

describe("without threads", () => {
  const tooMany = () => {
    throw new TypeError("Failed to spawn worker thread");
  };

  test("leaves the check to whoever asked", async () => {
    using at = rig({ start: tooMany });
    expect(await sumsOf(at.checkers, piecesOf(at.path))).toEqual({ isWhole: false, sums: [] });
  });

  test("checks everything with those that could be started", async () => {
    let started = 0;
    const start = () => (started++ === 0 ? new Worker(WORKER) : tooMany());
    using at = rig({ start, workers: 4 });
    expect(await sumsOf(at.checkers, piecesOf(at.path))).toEqual({ isWhole: true, sums: wanted });
  });

  test("gives the pieces of one that ends before its first answer to the others", async () => {
    using at = rig();
    const broken = at.dir.file("broken.ts");
    writeFileSync(broken, 'throw new Error("it does not run here");');
    let started = 0;
    const start = () => new Worker(started++ === 1 ? WORKER : broken);
    using checkers = new PieceCheckers({ signal: at.stop.signal, workers: 3, start });
    expect(await sumsOf(checkers, piecesOf(at.path))).toEqual({ isWhole: true, sums: wanted });
    using none = new PieceCheckers({
      signal: at.stop.signal,
      workers: 2,
      start: () => new Worker(broken),
    });
    expect(await sumsOf(none, piecesOf(at.path))).toEqual({ isWhole: false, sums: [] });
  });
});

test.each([
  ["throws", 'throw new Error("out of something")', "out of something"],
  ["exits", "process.exit(3)", "it ended by itself"],
])("a worker that %s at its third piece fails the check", async (_what, act, why) => {
  using at = rig();
  const failing = at.dir.file("failing.ts");
  const findings = "{ bytes: 1000, crc64s: new BigUint64Array(1), commands: undefined }";
  writeFileSync(
    failing,
    `import { parentPort } from "node:worker_threads";
     let n = 0;
     parentPort.on("message", () => {
       if (++n === 3) ${act};
       parentPort.postMessage({ findings: ${findings} });
     });`,
  );
  const { signal } = at.stop;
  using checkers = new PieceCheckers({ signal, workers: 2, start: () => new Worker(failing) });
  const error = await sumsOf(checkers, piecesOf(at.path)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ReplicaError);
  const { code, message } = error as ReplicaError;
  expect(code).toBe("DISK_FAILED");
  expect(message).toStartWith(`checking ${at.path}: a worker thread failed: `);
  expect(message).toContain(why);
});

describe("a stop", () => {
  const silent =
    'import { parentPort } from "node:worker_threads"; parentPort.on("message", () => ';

  test.each([
    ["never answer", `${silent} undefined);`],
    ["are busy for good", `${silent} { for (;;) {} });`],
  ])("ends the wait for workers that %s", async (_what, text) => {
    using at = rig();
    const program = at.dir.file("silent.ts");
    writeFileSync(program, text);
    const { signal } = at.stop;
    using checkers = new PieceCheckers({ signal, workers: 2, start: () => new Worker(program) });
    const waiting = sumsOf(checkers, piecesOf(at.path));
    setTimeout(() => at.stop.abort(new Error("it was told to stop")), 20);
    expect(await thrownBy(waiting)).toThrow("told to stop");
    expect(await thrownBy(sumsOf(checkers, piecesOf(at.path)))).toThrow("told to stop");
  });
});

test("a program whose checkers are disposed ends by itself", async () => {
  using dir = tempDir("pieces");
  writeFileSync(dir.file("file"), CONTENT);
  const program = `
    import { PieceCheckers } from ${JSON.stringify(join(import.meta.dir, "../../../src/store/pieces/piece-checkers.ts"))};
    using checkers = new PieceCheckers({ signal: new AbortController().signal, workers: 2 });
    const piece = { path: ${JSON.stringify(dir.file("file"))}, from: 0, to: 1000, cuts: [], commandsTo: 0 };
    console.log(await checkers.check([piece], () => true));
  `;
  writeFileSync(dir.file("program.ts"), program);
  const ran = Bun.spawn([process.execPath, dir.file("program.ts")], { env: process.env });
  expect([await new Response(ran.stdout).text(), await ran.exited]).toEqual(["true\n", 0]);
});
