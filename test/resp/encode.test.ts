import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CommandReader } from "../../src/resp/command-reader.ts";
import { encodeCommand, encodeCommands, selectCommand } from "../../src/resp/encode.ts";

const SEED = 20260102;
const LIMITS = { maxLineBytes: 1024, maxArgs: 1024, maxArgBytes: 1e6, maxCommandBytes: 1e6 };

describe("encodeCommand", () => {
  test("encodes strings, numbers and bytes", () => {
    expect(Buffer.from(encodeCommand("REPLCONF", "ACK", 4294967297)).toString()).toBe(
      "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$10\r\n4294967297\r\n",
    );
    expect(Buffer.from(encodeCommand("é", Uint8Array.of(0, 255))).toString("latin1")).toBe(
      "*2\r\n$2\r\n\xc3\xa9\r\n$2\r\n\x00\xff\r\n",
    );
    expect(Buffer.from(encodeCommand("")).toString()).toBe("*1\r\n$0\r\n\r\n");
  });

  test("selectCommand encodes a log's first command", () => {
    expect(Buffer.from(selectCommand(12)).toString()).toBe("*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n");
  });

  test("encodes what CommandReader reads back", () => {
    const arg = fc.oneof(fc.string({ unit: "binary" }), fc.uint8Array());
    fc.assert(
      fc.property(fc.array(arg, { minLength: 1 }), (args) => {
        const reader = new CommandReader(LIMITS);
        reader.push(encodeCommand(...args));
        const read = reader.next();
        expect(read).toEqual(args.map((arg) => Uint8Array.from(Buffer.from(arg as string))));
        expect(reader.heldBytes).toBe(0);
      }),
      { seed: SEED },
    );
  });

  test("encodes several as it encodes each", () => {
    // Lengths with one to four digits, and both ways to copy a word.
    const word = fc.uint8Array({ maxLength: 1_200, size: "max" });
    const command = fc.array(word, { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 4 }), (commands) => {
        const each = commands.map((words) => encodeCommand(...words));
        expect(Buffer.from(encodeCommands(commands))).toEqual(Buffer.concat(each));
      }),
      { seed: SEED },
    );
  });
});
