import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ReplicaError } from "../../src/base/errors.ts";
import { type BulkForm, BulkReader, parseBulkHeader } from "../../src/resp/bulk-reader.ts";

const SEED = 20260101;
const DELIMITER = "0123456789abcdef0123456789abcdef01234567";
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));
const text = (view: Uint8Array) => Buffer.from(view).toString("latin1");
const eof = (delimiter = DELIMITER): BulkForm => ({
  kind: "eof",
  delimiter: bytes(delimiter),
});

interface Divided {
  payload: string;
  /** `undefined`: the payload had not ended. */
  stream: string | undefined;
}

function divide(form: BulkForm, pieces: Uint8Array[]): Divided {
  const reader = new BulkReader(form);
  let payload = "";
  let stream = reader.complete ? "" : undefined;
  for (const piece of pieces) {
    const rest = reader.push(piece, (view) => {
      expect(view.length).toBeGreaterThan(0);
      payload += text(view);
    });
    expect(rest !== undefined).toBe(reader.complete);
    if (rest !== undefined) stream = (stream ?? "") + text(rest);
    expect(reader.payloadBytes).toBe(payload.length);
  }
  return { payload, stream };
}

function cutAt(all: Uint8Array, positions: number[]): Uint8Array[] {
  const edges = [
    0,
    ...positions.map((at) => at % (all.length + 1)).sort((a, b) => a - b),
    all.length,
  ];
  return edges.slice(1).map((edge, index) => all.subarray(edges[index], edge));
}

describe("parseBulkHeader", () => {
  test("reads a length, past 2^32 too", () => {
    expect(parseBulkHeader(bytes("$0"))).toEqual({ kind: "length", bytes: 0 });
    expect(parseBulkHeader(bytes("$8589934593"))).toEqual({ kind: "length", bytes: 8589934593 });
    expect(parseBulkHeader(bytes("$9007199254740991"))).toEqual({
      kind: "length",
      bytes: Number.MAX_SAFE_INTEGER,
    });
  });

  test("reads a delimiter of any bytes, as a copy", () => {
    const line = bytes(`$EOF:\xff${DELIMITER.slice(1)}`);
    const form = parseBulkHeader(line);
    line.fill(0);
    expect(form).toEqual({ kind: "eof", delimiter: bytes(`\xff${DELIMITER.slice(1)}`) });
  });

  test.each([
    "",
    "$",
    "$-1",
    "$+1",
    "$1.5",
    "$1e3",
    "$0x10",
    "$ 1",
    "$1 ",
    "$nan",
    "$9007199254740992",
    "$99999999999999999999999999",
    "$EOF:",
    `$EOF:${DELIMITER.slice(1)}`,
    `$EOF:${DELIMITER}x`,
    `$eof:${DELIMITER}`,
    "-ERR no",
    "+OK",
    "12",
  ])("refuses %p", (line) => {
    try {
      parseBulkHeader(bytes(line));
    } catch (caught) {
      expect(caught).toBeInstanceOf(ReplicaError);
      expect((caught as ReplicaError).code).toBe("PROTOCOL");
      expect((caught as ReplicaError).message).toEndWith(`'${line}'`);
      return;
    }
    throw new Error("it was accepted");
  });

  test("quotes at most 100 characters, and only printable ones", () => {
    expect(() => parseBulkHeader(bytes(`\x1b[31m\xff\n${"y".repeat(500)}`))).toThrow(
      `'?[31m??${"y".repeat(93)}'`,
    );
  });
});

describe("BulkReader, by length", () => {
  test("is complete at once for a length of 0", () => {
    const reader = new BulkReader({ kind: "length", bytes: 0 });
    expect(reader.complete).toBe(true);
    const chunk = bytes("stream");
    expect(reader.push(chunk, () => expect.unreachable())).toBe(chunk);
  });

  test("cut at every byte and every pair", () => {
    const all = bytes("payloadstream");
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        expect(divide({ kind: "length", bytes: 7 }, cutAt(all, [a, b]))).toEqual({
          payload: "payload",
          stream: "stream",
        });
      }
    }
  });

  test("hands out views, not copies", () => {
    const chunk = bytes("payloadstream");
    const reader = new BulkReader({ kind: "length", bytes: 7 });
    const rest = reader.push(chunk, (view) => expect(view.buffer).toBe(chunk.buffer));
    expect(rest!.buffer).toBe(chunk.buffer);
  });

  test("waits for the last byte, and counts on past 2^32", () => {
    const reader = new BulkReader({ kind: "length", bytes: 2 ** 32 + 1 });
    const chunk = new Uint8Array(2 ** 28);
    for (let i = 0; i < 16; i++) expect(reader.push(chunk, () => {})).toBeUndefined();
    expect(reader.payloadBytes).toBe(2 ** 32);
    expect(reader.push(bytes("xstream"), () => {})).toEqual(bytes("stream"));
  });
});

describe("BulkReader, by EOF delimiter", () => {
  test("cut at every byte and every pair, after false beginnings of the delimiter", () => {
    const payload = `REDIS${DELIMITER.slice(0, 20)}${DELIMITER.slice(0, 39)}${DELIMITER.slice(0, 17)}`;
    const all = bytes(`${payload}${DELIMITER}stream${DELIMITER}`);
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        const divided = divide(eof(), cutAt(all, [a, b]));
        if (divided.payload !== payload || divided.stream !== `stream${DELIMITER}`) {
          throw new Error(`cut at ${a} and ${b}: ${JSON.stringify(divided)}`);
        }
      }
    }
  });

  test("one byte at a time", () => {
    const pieces = [...bytes(`ab${DELIMITER}cd`)].map((byte) => Uint8Array.of(byte));
    expect(divide(eof(), pieces)).toEqual({ payload: "ab", stream: "cd" });
  });

  test("an empty payload", () => {
    expect(divide(eof(), [bytes(DELIMITER)])).toEqual({ payload: "", stream: "" });
  });

  test("withholds what may begin the delimiter until it has come whole", () => {
    expect(divide(eof(), [bytes(`ab${DELIMITER.slice(0, 39)}`)])).toEqual({
      payload: "ab",
      stream: undefined,
    });
  });

  test("hands out views, not copies", () => {
    const chunk = bytes(`payload${DELIMITER}stream`);
    const reader = new BulkReader(eof());
    const rest = reader.push(chunk, (view) => expect(view.buffer).toBe(chunk.buffer));
    expect(rest!.buffer).toBe(chunk.buffer);
  });

  test("finds a delimiter that overlaps itself as a plain search does", () => {
    const letters = (maxLength: number) =>
      fc.string({ unit: fc.constantFrom("a", "b"), minLength: 40, maxLength });
    // Delimiters of few letters, or of a repeated short word, overlap themselves.
    const delimiter = fc.oneof(
      letters(40),
      fc
        .string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 9 })
        .map((word) => word.repeat(40).slice(0, 40)),
    );
    const transcript = delimiter.chain((delimiter) =>
      fc.record({
        delimiter: fc.constant(delimiter),
        parts: fc.array(
          fc.oneof(
            fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 6 }),
            fc.nat(40).map((length) => delimiter.slice(0, length)),
            fc.nat(40).map((length) => delimiter.slice(length)),
          ),
          { maxLength: 12 },
        ),
        cuts: fc.array(fc.nat(500), { maxLength: 30 }),
      }),
    );
    fc.assert(
      fc.property(transcript, ({ delimiter, parts, cuts }) => {
        const whole = parts.join("");
        const end = whole.indexOf(delimiter);
        const divided = divide(eof(delimiter), cutAt(bytes(whole), cuts));
        if (end === -1) {
          expect(divided.stream).toBeUndefined();
          // What is withheld is the beginning of the delimiter, and no more.
          expect(whole).toStartWith(divided.payload);
          const withheld = whole.slice(divided.payload.length);
          expect(withheld.length).toBeLessThan(40);
          expect(delimiter).toStartWith(withheld);
        } else {
          expect(divided).toEqual({
            payload: whole.slice(0, end),
            stream: whole.slice(end + 40),
          });
        }
      }),
      { seed: SEED, numRuns: 5_000 },
    );
  });
});
