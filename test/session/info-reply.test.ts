import { describe, expect, test } from "bun:test";
import { LineReader } from "../../src/resp/line-reader.ts";
import { InfoReply } from "../../src/session/info-reply.ts";

/** Reads a reply as a session does, cut into chunks; returns the text, and what was left unread. */
function read(reply: string, chunkBytes = Infinity) {
  const lines = new LineReader({ maxLineBytes: 64 * 1024 });
  const info = new InfoReply();
  for (let at = 0; at < reply.length; at += chunkBytes) {
    lines.push(Buffer.from(reply.slice(at, at + chunkBytes)));
    for (let line = lines.next(); line !== undefined; line = lines.next()) {
      const done = info.push(line);
      if (done !== undefined)
        return {
          ...done,
          rest: Buffer.from(lines.rest()).toString() + reply.slice(at + chunkBytes),
        };
    }
  }
  return undefined;
}

const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`;

describe("the reply to INFO", () => {
  const text = "# Server\r\nredis_version:7.0.0\r\n\r\n# Memory\r\nused_memory_dataset:5\r\n";

  test.each([
    ["with a line end", text],
    ["without one", text.trimEnd()],
    ["with an empty line at its end", `${text}\r\n`],
    ["empty", ""],
  ])("is read to its last byte and no further, %s, however it is cut", (_, whole) => {
    for (const chunkBytes of [Infinity, 1, 2, 3, 7]) {
      const found = read(`${bulk(whole)}+FULLRESYNC`, chunkBytes)!;
      expect(found.rest).toBe("+FULLRESYNC");
      expect(found.text!.split("\n").filter(Boolean)).toEqual(whole.split("\r\n").filter(Boolean));
    }
  });

  test("is awaited until it is whole", () => {
    const whole = bulk(text);
    for (let length = 0; length < whole.length - 1; length++)
      expect(read(whole.slice(0, length))).toBeUndefined();
  });

  test.each(["-NOPERM this user has no permissions", "-ERR unknown command", "$-1", "+OK"])(
    "may be none: %s",
    (line) => {
      expect(read(`${line}\r\n+rest`)).toEqual({ text: undefined, rest: "+rest" });
    },
  );

  test.each([":1", "*2", "hello", "", "$1048577", "$x", "$"])("is malformed: %p", (line) => {
    expect(() => read(`${line}\r\n`)).toThrow("the primary answers INFO with");
  });

  test("is malformed where a line passes its end", () => {
    expect(() => read("$5\r\n12345678\r\n")).toThrow("the primary answers INFO with");
  });
});
