import { describe, expect, test } from "bun:test";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { CommandCount } from "../../../src/store/pieces/command-count.ts";
import { type Piece, PieceCheck, type PieceFindings } from "../../../src/store/pieces/piece.ts";
import { Random } from "../../support/fill.ts";
import { naiveFrames, naiveSafeCut } from "../../support/naive-frames.ts";
import { encodeCommand } from "../../support/resp.ts";
import { seedOf } from "../../support/sweep.ts";
import { trickyLog } from "../../support/tricky-log.ts";

const SEED = seedOf("PIECE_SEED");

function check(log: Buffer, piece: Omit<Piece, "path">, random: Random): PieceFindings {
  const checking = new PieceCheck({ path: "log", ...piece });
  for (let at = piece.from; at < Math.min(piece.to, log.length);) {
    const end = Math.min(piece.to, log.length, at + 1 + random.below(3_000));
    // It keeps no view of what it was given.
    const block = Uint8Array.from(log.subarray(at, end));
    checking.push(block);
    block.fill(0x2a);
    at = end;
  }
  return checking.findings;
}

test("sums each run by itself, wherever the blocks end", () => {
  const random = new Random(SEED);
  const log = Buffer.from(random.bytes(200_000));
  for (let round = 0; round < 50; round++) {
    const ends = Array.from({ length: random.below(8) + 2 }, () => random.below(log.length));
    const [from = 0, ...rest] = [...new Set(ends)].toSorted((a, b) => a - b);
    const to = rest.at(-1) ?? from;
    const piece = { from, to, cuts: rest.slice(0, -1), commandsTo: 0 };
    const { bytes, crc64s, commands } = check(log, piece, random);
    const runs = rest.map((end, n) => crc64(log.subarray(n === 0 ? from : rest[n - 1], end)));
    expect([bytes, [...crc64s], commands]).toEqual([to - from, runs, undefined]);
  }
});

test("says how many bytes there were where the file ends before the piece", () => {
  const random = new Random(SEED);
  const log = Buffer.from(random.bytes(5_000));
  const piece = { from: 1_000, to: 9_000, cuts: [2_000, 6_000], commandsTo: 0 };
  const { bytes, crc64s } = check(log, piece, random);
  expect([bytes, crc64s[0]]).toEqual([4_000, crc64(log.subarray(1_000, 2_000))]);
});

describe("commands of a piece, joined to those before it", () => {
  test("are those of the whole log, if they begin where a command outside a transaction does", () => {
    const random = new Random(SEED);
    let joined = 0;
    for (let round = 0; round < 60; round++) {
      const log = trickyLog(random, 300);
      const frames = naiveFrames(log);
      const from = random.below(log.length);
      const to = from + random.below(log.length - from + 1);
      const { commands } = check(log, { from, to, cuts: [], commandsTo: to }, random);
      if (commands === undefined) continue;
      expect(commands.from).toBeGreaterThanOrEqual(from);
      expect(commands.to).toBeLessThanOrEqual(to);
      const count = new CommandCount(0);
      count.push(log.subarray(0, commands.from));
      if (!count.isAtSafeCut) continue;
      joined++;
      count.add(commands);
      const whole = frames.filter(({ end }) => end <= commands.to);
      const plain = new CommandCount(0);
      plain.push(log.subarray(0, commands.to));
      expect(count.found).toEqual(plain.found);
      expect(count.found).toMatchObject({
        commands: whole.length,
        safeCut: naiveSafeCut(whole),
        to: commands.to,
      });
      // A transaction that is open goes on after it, too.
      count.push(log.subarray(commands.to));
      plain.push(log.subarray(commands.to));
      expect(count.found).toEqual(plain.found);
    }
    expect(joined).toBeGreaterThan(10);
  });

  test("begin after a transaction that was open before the piece", () => {
    const inside = [["SET", "a", "1"], ["SET", "b", "2"], ["EXEC"]].map((words) =>
      encodeCommand(words),
    );
    const after = encodeCommand(["SET", "c", "3"]);
    const log = Buffer.concat([...inside, after, after]);
    const piece = { from: 0, to: log.length, cuts: [], commandsTo: log.length };
    const { commands } = check(log, piece, new Random(SEED));
    expect(commands).toMatchObject({
      from: log.length - 2 * after.length,
      commands: 2,
      safeCut: log.length,
    });
  });

  test("are not looked for without end in a value that is full of beginnings", () => {
    const log = Buffer.alloc(1_000_000, "\r\n*x");
    const piece = { from: 0, to: log.length, cuts: [], commandsTo: log.length };
    expect(check(log, piece, new Random(SEED)).commands).toBeUndefined();
  });
});
