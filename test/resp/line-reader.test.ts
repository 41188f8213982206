import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { LineReader } from "../../src/resp/line-reader.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (view: Uint8Array) => Buffer.from(view).toString("latin1");

/** Pushes each piece and takes the lines that are whole; the last entry is the unfinished rest. */
function read(pieces: Uint8Array[], maxLineBytes = 100): string[] {
  const reader = new LineReader({ maxLineBytes });
  const lines: string[] = [];
  for (const piece of pieces) {
    reader.push(piece);
    for (let line = reader.next(); line !== undefined; line = reader.next()) lines.push(text(line));
  }
  return [...lines, `rest:${text(reader.rest())}`];
}

const TRANSCRIPT = "+PONG\r\n\n\r\n-ERR no\r\r\n+FULLRESYNC abc 12\n$3\r\nab";
const LINES = ["+PONG", "", "", "-ERR no\r", "+FULLRESYNC abc 12", "$3", "rest:ab"];

describe("LineReader", () => {
  test("takes lines, and keeps an unfinished one", () => {
    expect(read([bytes(TRANSCRIPT)])).toEqual(LINES);
  });

  test("reads a transcript cut at every byte and every pair", () => {
    const all = bytes(TRANSCRIPT);
    for (let a = 0; a <= all.length; a++) {
      for (let b = a; b <= all.length; b++) {
        const cut = [all.subarray(0, a), all.subarray(a, b), all.subarray(b)];
        expect(read(cut)).toEqual(LINES);
      }
    }
  });

  test("passes over empty lines, over the ends of chunks too, up to the next line", () => {
    for (const empty of ["\n", "\r\n", "\n\r\n"]) {
      const reader = new LineReader({ maxLineBytes: 100 });
      for (const piece of [empty.repeat(1000), empty.repeat(1000), `${empty}+OK\n\n`]) {
        reader.push(bytes(piece));
      }
      reader.skipEmpty();
      expect(text(reader.next()!)).toBe("+OK");
      reader.skipEmpty();
      expect(reader.pendingBytes).toBe(0);
    }
  });

  test("passes over no part of a line that has begun", () => {
    const reader = new LineReader({ maxLineBytes: 100 });
    for (const piece of ["\n+O", "K\r", "\n\r"]) {
      reader.push(bytes(piece));
      reader.skipEmpty();
      if (piece !== "\n\r") expect(reader.next()).toBeUndefined();
    }
    expect(text(reader.next()!)).toBe("+OK");
    expect(reader.next()).toBeUndefined();
    reader.push(bytes("\n+NO\n"));
    reader.skipEmpty();
    expect(text(reader.next()!)).toBe("");
    expect(text(reader.next()!)).toBe("+NO");
  });

  test("one byte at a time", () => {
    expect(read([...bytes(TRANSCRIPT)].map((byte) => Uint8Array.of(byte)))).toEqual(LINES);
  });

  test("reads several chunks pushed before the first is taken", () => {
    const reader = new LineReader({ maxLineBytes: 100 });
    for (const piece of ["+a\r", "\n+b", "b\n", "", "+c\n$"]) reader.push(bytes(piece));
    expect(reader.pendingBytes).toBe(13 - 1);
    expect([reader.next(), reader.next(), reader.next()].map((line) => text(line!))).toEqual([
      "+a",
      "+bb",
      "+c",
    ]);
    expect(reader.next()).toBeUndefined();
    expect(reader.pendingBytes).toBe(1);
    expect(text(reader.rest())).toBe("$");
    expect(reader.pendingBytes).toBe(0);
  });

  test("returns a line inside a chunk as a view, and the rest too", () => {
    const chunk = bytes("+OK\r\nstream");
    const reader = new LineReader({ maxLineBytes: 100 });
    reader.push(chunk);
    expect(reader.next()!.buffer).toBe(chunk.buffer);
    expect(reader.rest().buffer).toBe(chunk.buffer);
  });

  test("keeps a line split over chunks unchanged when the next one comes", () => {
    const reader = new LineReader({ maxLineBytes: 100 });
    reader.push(bytes("+fi"));
    reader.next();
    reader.push(bytes("rst\n+se"));
    const first = reader.next()!;
    reader.next();
    reader.push(bytes("cond\n"));
    expect(text(reader.next()!)).toBe("+second");
    expect(text(first)).toBe("+first");
  });

  test("rest joins an unfinished line with the chunks after it, and leaves nothing", () => {
    const reader = new LineReader({ maxLineBytes: 100 });
    reader.push(bytes("ab"));
    expect(reader.next()).toBeUndefined();
    reader.push(bytes("c\nd"));
    reader.push(bytes("e"));
    expect(text(reader.rest())).toBe("abc\nde");
    expect(reader.rest()).toHaveLength(0);
    reader.push(bytes("+x\n"));
    expect(text(reader.next()!)).toBe("+x");
  });

  test("accepts the longest line, with either line end, split anywhere", () => {
    for (const end of ["\n", "\r\n"]) {
      const all = bytes("x".repeat(8) + end);
      for (let cut = 0; cut <= all.length; cut++) {
        expect(read([all.subarray(0, cut), all.subarray(cut)], 8)).toEqual(["xxxxxxxx", "rest:"]);
      }
    }
  });

  test("refuses a line that is too long, also before its end, on every call", () => {
    for (const line of [
      "x".repeat(9),
      `${"x".repeat(9)}\n`,
      `${"x".repeat(9)}\r\n`,
      "xxxxxxxx\rx",
    ]) {
      const all = bytes(line);
      for (let cut = 0; cut <= all.length; cut++) {
        const reader = new LineReader({ maxLineBytes: 8 });
        const take = () => {
          for (const piece of [all.subarray(0, cut), all.subarray(cut)]) {
            reader.push(piece);
            reader.next();
          }
        };
        expect(take).toThrow(ReplicaError);
        expect(() => reader.next()).toThrow("longer than 8 bytes");
      }
    }
  });

  test("takes linear time for a long line that comes byte by byte", () => {
    const reader = new LineReader({ maxLineBytes: 1 << 20 });
    const one = bytes("x");
    for (let i = 0; i < 1 << 20; i++) {
      reader.push(one);
      if (reader.next() !== undefined) throw new Error("too early");
    }
    reader.push(bytes("\n"));
    expect(reader.next()).toHaveLength(1 << 20);
  });
});
