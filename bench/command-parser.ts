import { CommandReader } from "../src/resp/command-reader.ts";

const LIMITS = { maxLineBytes: 65536, maxArgs: 64, maxArgBytes: 65536, maxCommandBytes: 262144 };

/** Returns a function that parses the commands in a connection's next bytes; arguments as text. */
export function commandParser(): (bytes: Uint8Array) => Iterable<string[]> {
  const reader = new CommandReader(LIMITS);
  return function* parse(bytes) {
    reader.push(bytes);
    for (let words = reader.next(); words !== undefined; words = reader.next()) {
      yield words.map((word) => Buffer.from(word).toString());
    }
  };
}
