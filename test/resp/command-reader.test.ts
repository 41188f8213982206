import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ReplicaError } from "../../src/base/errors.ts";
import { type CommandLimits, CommandReader } from "../../src/resp/command-reader.ts";

const SEED = 20260104;
const LIMITS: CommandLimits = {
  maxLineBytes: 64,
  maxArgs: 8,
  maxArgBytes: 100,
  maxCommandBytes: 200,
};
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

function read(pieces: Uint8Array[], limits = LIMITS): string[][] {
  const reader = new CommandReader(limits);
  const commands: string[][] = [];
  for (const piece of pieces) {
    reader.push(piece);
    for (let args = reader.next(); args !== undefined; args = reader.next()) {
      commands.push(args.map((arg) => Buffer.from(arg).toString("latin1")));
    }
  }
  return commands;
}

const TRANSCRIPT =
  '\r\n*1\r\n$4\r\nPING\r\n*0\r\n*-1\r\nSET key "a b\\x41"\r\n\n*2\r\n$4\r\nECHO\r\n$4\r\n\r\n*\xff\r\nPING\n*2\r\n$3\r\nGET\r\n$0\r\n\r\nQU';
const COMMANDS = [["PING"], ["SET", "key", "a bA"], ["ECHO", "\r\n*\xff"], ["PING"], ["GET", ""]];

describe("CommandReader", () => {
  test("reads pipelined arrays and inline commands, and skips empty ones", () => {
    expect(read([bytes(TRANSCRIPT)])).toEqual(COMMANDS);
  });

  test("refuses what is no text at once: a TLS handshake by its first byte, another protocol by a NUL", () => {
    const refusal = (text: string) => {
      try {
        return read([bytes(text)]);
      } catch (error) {
        return (error as ReplicaError).message;
      }
    };
    const hello = "\x16\x03\x01\x02\x00\x01";
    const tls = "Protocol error: TLS, which this port doesn't speak";
    for (const rest of ["", "\nPING\n", "\r\n*1\r\n$4\r\nPING\r\n"]) {
      expect(refusal(hello + rest)).toBe(tls);
      expect(refusal(`\r\n${hello}${rest}`)).toBe(tls);
    }
    expect(refusal("PING\0\nPING\n")).toBe("Protocol error: NUL in an inline request");
    // In an argument of an array each byte is as good as another.
    expect(refusal("*2\r\n$4\r\nECHO\r\n$2\r\n\x16\0\r\n")).toEqual([["ECHO", "\x16\0"]]);
  });

  test("cut at every byte and every pair", () => {
    const all = bytes(TRANSCRIPT);
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        expect(read([all.subarray(0, a), all.subarray(a, b), all.subarray(b)])).toEqual(COMMANDS);
      }
    }
  });

  test("one byte at a time", () => {
    expect(read([...bytes(TRANSCRIPT)].map((byte) => Uint8Array.of(byte)))).toEqual(COMMANDS);
  });

  test("copies arguments, so that the chunk may be reused", () => {
    const chunk = bytes("*1\r\n$4\r\nPING\r\n");
    const reader = new CommandReader(LIMITS);
    reader.push(chunk);
    const args = reader.next();
    chunk.fill(0);
    expect(args).toEqual([bytes("PING")]);
  });

  test.each([
    ["*x\r\n", "invalid multibulk length"],
    ["*\r\n", "invalid multibulk length"],
    ["*01\r\n", "invalid multibulk length"],
    ["*9\r\n", "invalid multibulk length"],
    ["*99999999999999999999\r\n", "invalid multibulk length"],
    ["*1\r\nPING\r\n", "expected '$', got 'P'"],
    ["*1\r\n\x01\r\n", "expected '$', got '?'"],
    ["*1\r\n$-1\r\n", "invalid bulk length"],
    ["*1\r\n$x\r\n", "invalid bulk length"],
    ["*1\r\n$101\r\n", "invalid bulk length"],
    [
      `*3\r\n$100\r\n${"x".repeat(100)}\r\n$100\r\n${"x".repeat(100)}\r\n$1\r\n`,
      "invalid bulk length",
    ],
    ["*1\r\n$1\r\nabc", "expected CRLF after a bulk string"],
    [`*${"1".repeat(64)}`, "too big mbulk count string"],
    [`*1\r\n$${"1".repeat(64)}`, "too big bulk count string"],
    ["x".repeat(65), "too big inline request"],
    [`${"x".repeat(65)}\r\n`, "too big inline request"],
    ["1 2 3 4 5 6 7 8 9\r\n", "too big inline request"],
    ['SET a "b\r\n', "unbalanced quotes in request"],
    ["SET a 'b\r\n", "unbalanced quotes in request"],
    ['SET "a"b\r\n', "unbalanced quotes in request"],
  ])("refuses %p", (input, message) => {
    const all = bytes(input);
    for (let cut = 0; cut <= all.length; cut++) {
      const act = () => read([all.subarray(0, cut), all.subarray(cut)]);
      expect(act).toThrow(ReplicaError);
      expect(act).toThrow(`Protocol error: ${message}`);
    }
  });

  test("takes linear time for a long argument that comes byte by byte", () => {
    const limits = { ...LIMITS, maxArgBytes: 1 << 20, maxCommandBytes: 1 << 20 };
    const reader = new CommandReader(limits);
    reader.push(bytes(`*1\r\n$${1 << 20}\r\n`));
    const one = bytes("x");
    for (let i = 0; i < 1 << 20; i++) {
      reader.push(one);
      if (reader.next() !== undefined) throw new Error("too early");
    }
    reader.push(bytes("\r\n"));
    expect(reader.next()![0]).toHaveLength(1 << 20);
  });

  test("throws nothing but PROTOCOL on any bytes, and never holds more than its limits", () => {
    const token = fc.oneof(
      fc.constantFrom(
        "*",
        "$",
        "\r\n",
        "\n",
        "*2\r\n",
        "*1\r\n$4\r\n",
        "PING",
        "-",
        '"',
        "'",
        "\\x4",
      ),
      fc.integer({ min: -2, max: 250 }).map((length) => `$${length}\r\n`),
      fc.nat(9).map((count) => `*${count}\r\n`),
      fc.string({ unit: "binary-ascii", maxLength: 120 }),
      fc.nat(100).map((length) => `$${length}\r\n${"v".repeat(length)}\r\n`),
    );
    const chunks = fc.array(fc.array(token, { maxLength: 6 }).map((parts) => parts.join("")));
    const mostHeld = LIMITS.maxCommandBytes + LIMITS.maxLineBytes + 2;
    fc.assert(
      fc.property(chunks, (chunks) => {
        const reader = new CommandReader(LIMITS);
        try {
          for (const chunk of chunks) {
            reader.push(bytes(chunk));
            for (let args = reader.next(); args !== undefined; args = reader.next()) {
              expect(args.length).toBeWithin(1, LIMITS.maxArgs + 1);
              expect(args.every((arg) => arg.length <= LIMITS.maxArgBytes)).toBe(true);
            }
            expect(reader.heldBytes).toBeLessThanOrEqual(mostHeld);
          }
        } catch (caught) {
          if (!(caught instanceof ReplicaError) || caught.code !== "PROTOCOL") throw caught;
        }
      }),
      { seed: SEED, numRuns: 5_000 },
    );
  });

  test("returns any commands, cut anywhere, as they were sent", () => {
    const command = fc.array(fc.uint8Array({ maxLength: 20 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(fc.array(command), fc.array(fc.nat(2000)), (commands, cuts) => {
        const all = Buffer.concat(
          commands.flatMap((args) => [
            Buffer.from(`*${args.length}\r\n`),
            ...args.flatMap((arg) => [Buffer.from(`$${arg.length}\r\n`), arg, Buffer.from("\r\n")]),
          ]),
        );
        const edges = [...cuts.map((at) => at % (all.length + 1)), all.length].sort(
          (a, b) => a - b,
        );
        const pieces = edges.map((edge, index) => all.subarray(edges[index - 1] ?? 0, edge));
        expect(read(pieces)).toEqual(
          commands.map((args) => args.map((arg) => Buffer.from(arg).toString("latin1"))),
        );
      }),
      { seed: SEED },
    );
  });
});
