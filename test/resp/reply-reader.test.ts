import { describe, expect, test } from "bun:test";
import { type Reply, ReplyReader } from "../../src/resp/reply-reader.ts";

const TRANSCRIPT =
  "+PONG\r\n:12\r\n$7\r\na\r\nb: 1\r\n$0\r\n\r\n$-1\r\n-LOADING it loads\r\n$2\r\né\r\n*2\r\n$1\r\na\r\n:1\r\n*0\r\n";
const REPLIES: Reply[] = [
  { isError: false, text: "PONG" },
  { isError: false, text: "12" },
  { isError: false, text: "a\r\nb: 1" },
  { isError: false, text: "" },
  { isError: false, text: "" },
  { isError: true, text: "LOADING it loads" },
  { isError: false, text: "é" },
  { isError: false, text: "2", elements: 2 } as Reply,
  { isError: false, text: "a" },
  { isError: false, text: "1" },
  { isError: false, text: "0", elements: 0 } as Reply,
];

function readAll(pieces: readonly Uint8Array[], maxReplyBytes = 100): Reply[] {
  const reader = new ReplyReader({ maxReplyBytes });
  const replies: Reply[] = [];
  for (const piece of pieces) {
    reader.push(piece);
    for (let reply = reader.next(); reply !== undefined; reply = reader.next()) replies.push(reply);
  }
  return replies;
}

describe("replies", () => {
  const bytes = Buffer.from(TRANSCRIPT);

  test("are the same wherever the bytes are cut", () => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(readAll([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(REPLIES);
    }
    expect(readAll([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(REPLIES);
  });

  test.each(["*65\r\n", "*-1\r\n", "HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "$-2\r\n", "\r\n"])(
    "refuses %j",
    (text) => {
      expect(() => readAll([Buffer.from(text)])).toThrow(
        "expected a line, a number or a bulk string, got",
      );
    },
  );

  test("are limited in length, also before they are whole", () => {
    expect(readAll([Buffer.from(`$8\r\n${"x".repeat(8)}\r\n`)], 12)).toHaveLength(1);
    expect(() => readAll([Buffer.from("$9\r\n")], 12)).toThrow("longer than 12 bytes");
    expect(() => readAll([Buffer.from(`+${"x".repeat(12)}`)], 12)).toThrow("longer than 12 bytes");
  });
});
