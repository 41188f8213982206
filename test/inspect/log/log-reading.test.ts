import { expect, test } from "bun:test";
import { thrownBy } from "../../support/error-of.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { KeptLog } from "../../../src/inspect/log/kept-log.ts";
import type { LogBound } from "../../../src/inspect/log/log-bounds.ts";
import { type LogReadingOptions, readLog } from "../../../src/inspect/log/log-reading.ts";
import { Random } from "../../support/fill.ts";
import { encodeCommand } from "../../support/resp.ts";
import { seedOf } from "../../support/sweep.ts";
import { isOfLink, logOf, madeStream, named, simpleEntries, simplified } from "./made-log.ts";
import { memoryLog, MemoryLogs } from "./memory-logs.ts";

const never = new AbortController().signal;

/** `SET key 0`, `SET key 1` … and where each one ends. */
function counted(from: number, to: number) {
  const commands = Array.from({ length: to - from }, (_, n) =>
    encodeCommand(["SET", "k", from + n]),
  );
  return Buffer.concat(commands);
}

/** Each of these commands is as long as any other one, while its number has two digits. */
const STEP = encodeCommand(["SET", "k", 10]).length;
const BASE = 1_000;
/** The offset before the command of a number from 10 on. */
const before = (number: number) => BASE + (number - 10) * STEP;

/** The log of a generation that begins before one number and ends before another. */
function log(
  id: string,
  from: number,
  to: number,
  more: Partial<Parameters<typeof memoryLog>[0]> = {},
) {
  return memoryLog({ id, log: logOf(before(from), 0, counted(from, to)), isSealed: true, ...more });
}

/** Reads; returns the numbers and what was told of gaps. */
async function read(
  states: readonly (readonly KeptLog[])[],
  options: Partial<LogReadingOptions> = {},
) {
  const gaps: string[] = [];
  const stopping = new AbortController();
  const ended = new Error("no more states");
  const source = new MemoryLogs(states, () => stopping.abort(ended));
  const numbers: number[] = [];
  const times: (number | undefined)[] = [];
  const signal = AbortSignal.any([stopping.signal, never]);
  const onNote = (message: string) => gaps.push(message);
  try {
    for await (const { args, atMs } of readLog(source, {
      signal,
      onGap: onNote,
      onRemoved: onNote,
      onTrouble: onNote,
      ...options,
    })) {
      numbers.push(Number(Buffer.from(args[1]!).toString()));
      times.push(atMs);
    }
  } catch (error) {
    if (error !== ended) throw error;
  }
  return { numbers, gaps, times };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, n) => from + n);
}

test("what two generations hold is shown once", async () => {
  const logs = [log("1", 10, 30), log("2", 25, 50), log("3", 50, 60), log("4", 60, 60)];
  expect(await read([logs])).toEqual({
    numbers: range(10, 60),
    gaps: [],
    times: range(10, 60).map(() => undefined),
  });
});

test("what isn't kept is told, and another history as well", async () => {
  const logs = [
    log("1", 10, 20),
    log("2", 30, 40),
    log("3", 35, 45, { histories: [["b", before(35)]] }),
  ];
  const { numbers, gaps } = await read([logs]);
  expect(numbers).toEqual([...range(10, 20), ...range(30, 40), ...range(35, 45)]);
  expect(gaps).toEqual([
    `offsets ${before(20) + 1} to ${before(30)} are not kept: generation 2 begins behind them`,
    `generation 3 begins another history, at offset ${before(35)}: what was written since offset ${before(40)} of generation 2 is not kept`,
  ]);
});

test("histories that part are told apart, those of a failover are one", async () => {
  const failover = [
    log("1", 10, 30, {
      histories: [
        ["a", before(10)],
        ["b", before(20)],
      ],
    }),
    log("2", 25, 40, { histories: [["b", before(25)]] }),
  ];
  expect(await read([failover])).toMatchObject({ numbers: range(10, 40), gaps: [] });
  const parted = [
    log("1", 10, 30, { histories: [["a", before(10)]] }),
    log("2", 15, 40, {
      histories: [
        ["a", before(15)],
        ["c", before(20)],
      ],
    }),
  ];
  const { numbers, gaps } = await read([parted]);
  expect(numbers).toEqual([...range(10, 30), ...range(15, 40)]);
  expect(gaps).toHaveLength(1);
});

test("two writers of one history: nothing twice, and the one that reaches farthest ends it", async () => {
  const logs = [log("1", 10, 30), log("2", 10, 30), log("3", 20, 60), log("4", 22, 50)];
  expect(await read([logs])).toMatchObject({ numbers: range(10, 60), gaps: [] });
});

test("a log that ends inside a command goes on in the next one", async () => {
  const logs = [log("1", 10, 30, { endOffset: before(29) + 5 }), log("2", 25, 40)];
  expect(await read([logs])).toMatchObject({ numbers: range(10, 40), gaps: [] });
});

const second = (number: number) => 1_000_000 + 1_000 * number;
/** After each command a mark, a second later than the one before. */
const marks = (from: number, to: number) =>
  range(from, to).map((number) => ({ atMs: second(number), offset: before(number + 1) }));

test.each<[string, { from?: LogBound; to?: LogBound }, number[]]>([
  ["an offset", { from: { offset: before(28) } }, range(28, 50)],
  ["an offset inside a command", { from: { offset: before(28) + 1 } }, range(28, 50)],
  ["up to an offset", { to: { offset: before(28) } }, range(10, 28)],
  ["up to an offset inside a command", { to: { offset: before(28) + 1 } }, range(10, 28)],
  ["a time", { from: { atMs: second(28) } }, range(28, 50)],
  ["a time between marks", { from: { atMs: second(28) + 1 } }, range(29, 50)],
  ["up to a time", { to: { atMs: second(28) } }, range(10, 29)],
  ["both", { from: { atMs: second(12) }, to: { offset: before(14) } }, range(12, 14)],
  ["both in the second", { from: { atMs: second(32) }, to: { atMs: second(33) } }, range(32, 34)],
  ["before all", { from: { atMs: 5 } }, range(10, 50)],
  ["the end", { from: { atMs: second(999) } }, []],
  ["nothing between", { from: { offset: before(30) }, to: { offset: before(30) } }, []],
])("reads %s", async (_, bounds, wanted) => {
  const logs = [
    log("1", 10, 30, { marks: marks(10, 30) }),
    log("2", 25, 50, { marks: marks(25, 50) }),
  ];
  const { numbers, times } = await read([logs], bounds);
  expect(numbers).toEqual(wanted);
  expect(times).toEqual(wanted.map(second));
});

test("commands between two marks have the time of the second one", async () => {
  const logs = [log("1", 10, 20, { marks: marks(10, 20).filter((_, n) => n % 3 === 2) })];
  const { times } = await read([logs]);
  const wanted = [12, 12, 12, 15, 15, 15, 18, 18, 18].map(second);
  expect(times).toEqual([...wanted, undefined]);
});

test("bounds that aren't kept are refused with those that are", async () => {
  const logs = [log("1", 10, 30, { marks: marks(10, 30) })];
  const refused = async (options: Partial<LogReadingOptions>) =>
    await read([logs], options).catch((error: unknown) => (error as Error).message);
  expect(await refused({ from: { offset: 5 } })).toBe(
    `offset 5 is not kept in memory: the kept offsets are from ${before(10)} to ${before(30)} (generation 1)`,
  );
  expect(await refused({ to: { atMs: 7 } })).toContain("is before all that memory keeps");
  const timeless = await read([[log("1", 10, 30)]], { from: { atMs: 7 } }).catch(
    (error: unknown) => (error as Error).message,
  );
  expect(timeless).toContain("the times in memory are unknown: give an offset, as offset:N");
  expect(await refused({ from: { atMs: second(20) }, to: { atMs: second(5) } })).toContain(
    "before all",
  );
  const turned = { from: { offset: before(20) }, to: { offset: before(15) } };
  expect(await refused(turned)).toContain("what is wanted ends before it begins");
  expect(await read([logs], { from: turned.to, to: turned.to })).toMatchObject({ times: [] });
  const other = [...logs, log("2", 10, 30, { histories: [["b", before(10)]] })];
  const backwards = await read([other], {
    from: { offset: before(12) },
    to: { atMs: second(15) },
  }).catch((error: unknown) => (error as Error).message);
  expect(backwards).toContain("what is wanted ends before it begins");
});

test("follows through growth, new generations and removals: each command once, in order", async () => {
  const grown = (to: number, isSealed = false) =>
    log("1", 10, 60, { endOffset: before(to), isSealed });
  const states = [
    [],
    [grown(10)],
    [grown(15)],
    [grown(15)],
    // Inside a command.
    [log("1", 10, 60, { endOffset: before(17) + 3, isSealed: false })],
    [grown(20, true), log("2", 20, 20, { isSealed: false })],
    [grown(20, true), log("2", 20, 25, { isSealed: false })],
    [log("2", 20, 28), log("3", 26, 30, { isSealed: false })],
    [log("3", 26, 35), log("4", 40, 42, { isSealed: false })],
  ];
  const { numbers, gaps } = await read(states, { isFollowing: true });
  expect(numbers).toEqual([...range(10, 35), ...range(40, 42)]);
  expect(gaps).toEqual([
    `offsets ${before(35) + 1} to ${before(40)} are not kept: generation 4 begins behind them`,
  ]);
});

test("a generation that is removed while it is read is told, and the next one follows", async () => {
  const broken: KeptLog = {
    ...log("1", 10, 30),
    blocks: () => {
      throw new Error("ENOENT");
    },
  };
  const next = log("2", 20, 40);
  const { numbers, gaps } = await read([[broken, next], [next]]);
  expect(numbers).toEqual(range(20, 40));
  expect(gaps[0]).toBe("generation 1 was removed while it was read");
  expect(gaps[1]).toContain(`offsets ${before(10) + 1} to ${before(20)} are not kept`);
  const stays = await read([[broken, next]]).catch((error: unknown) => (error as Error).message);
  expect(stays).toBe("ENOENT");
});

test("what fails for a while ends nobody who follows, and is told once", async () => {
  let fails = 3;
  const away = () => new ReplicaError("ARCHIVE_FAILED", { message: "the store is away" });
  const whole = log("1", 10, 30, { isSealed: false });
  const failing: KeptLog = {
    ...whole,
    async *blocks(from, to, signal) {
      let left = 2;
      for await (const block of whole.blocks(from, to, signal)) {
        yield block;
        if (--left === 0 && fails-- > 0) throw away();
      }
    },
  };
  const states = Array.from({ length: 12 }, () => [failing]);
  const { numbers, gaps } = await read(states, { isFollowing: true });
  expect(numbers).toEqual(range(10, 30));
  expect(gaps.slice(0, 1)).toEqual(["the store is away; trying again"]);
  fails = 1;
  expect(await thrownBy(read([[failing], [failing]]))).toThrow("the store is away");
});

test("damage is told with its byte, after all that comes before it", async () => {
  const bytes = Buffer.concat([counted(10, 15), Buffer.from("rubbish"), counted(15, 20)]);
  const damaged = memoryLog({ id: "1", log: logOf(before(10), 0, bytes) });
  const numbers: number[] = [];
  let message = "";
  try {
    const source = new MemoryLogs([[damaged]]);
    for await (const { args } of readLog(source, { signal: never })) numbers.push(Number(args[1]));
  } catch (error) {
    message = (error as Error).message;
  }
  expect(numbers).toHaveLength(5);
  const at = encodeCommand(["SELECT", 0]).length + 5 * STEP;
  expect(message).toStartWith(`1, byte ${at}: expected`);
});

test("a transaction in two generations, and commands in several blocks, are as in the log", async () => {
  const random = new Random(seedOf("LOG_READING_SEED"));
  const made = logOf(700, 1, madeStream(random, 200));
  const wanted = simpleEntries(made).filter((one) => !isOfLink(one));
  const found = [];
  const source = new MemoryLogs([[memoryLog({ id: "1", log: made })]]);
  for await (const entry of readLog(source, { signal: never })) found.push(entry);
  expect(found.map(simplified)).toEqual(wanted.map(named));
});
