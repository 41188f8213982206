import { expect, test } from "bun:test";
import { jsonLines, shownLines } from "../../../src/cli/log/log-lines.ts";
import { writeJsonWord, writeShownWord } from "../../../src/cli/log/word-text.ts";
import type { LogEntry } from "../../../src/inspect/log/log-entry.ts";
import { Random } from "../../support/fill.ts";
import { seedOf } from "../../support/sweep.ts";

type Word = string | Uint8Array;

const bytesOf = (word: Word) => (typeof word === "string" ? Buffer.from(word) : word);

function entryOf(words: readonly Word[], more: Partial<LogEntry> = {}): LogEntry {
  const [command, ...args] = words;
  const bytes = args.map(bytesOf);
  return {
    offset: 100,
    end: 150,
    replid: undefined,
    atMs: Date.UTC(2026, 11, 1, 5, 6, 7, 89),
    db: 0,
    command: String(command),
    keys: bytes.slice(0, 1),
    args: bytes,
    transaction: undefined,
    ...more,
  };
}

function json(entry: LogEntry): string {
  let text = "";
  jsonLines((more) => (text += more))(entry);
  return text;
}

function shown(entries: readonly LogEntry[], isCut = false): string {
  let text = "";
  const write = shownLines((more) => (text += more), { lastOffset: 12_345_678, isCut });
  for (const entry of entries) write(entry);
  return text;
}

const inJson = (word: Word) => {
  let text = "";
  writeJsonWord(bytesOf(word), (more) => (text += more));
  return text;
};
const inText = (word: Word) => {
  let text = "";
  writeShownWord(bytesOf(word), (more) => (text += more));
  return text;
};

test("an object a line, with what isn't UTF-8 in base64", () => {
  const entry = entryOf(["SET", "k", Uint8Array.from([0, 255])]);
  expect(json(entry)).toBe(
    '{"offset":100,"end":150,"time":"2026-12-01T05:06:07.089Z","db":0,"command":"SET","keys":["k"],"args":["k",{"base64":"AP8="}]}\n',
  );
  const transaction = { offset: 80, end: 200 };
  expect(JSON.parse(json(entryOf(["DEL"], { atMs: undefined, transaction })))).toEqual({
    offset: 100,
    end: 150,
    time: null,
    db: 0,
    command: "DEL",
    keys: [],
    args: [],
    transaction,
  });
  const open = { offset: 80, end: undefined };
  expect(json(entryOf(["DEL"], { transaction: open }))).toContain(
    '"transaction":{"offset":80,"end":null}',
  );
});

test("any bytes come back from JSON, and stay on one line", () => {
  const random = new Random(seedOf("LOG_JSON_SEED"));
  const texts = [
    "",
    " ",
    '"',
    "\\",
    "\n",
    "\u0000",
    "é",
    "漢字",
    "😀",
    "\u2028",
    "\ufeff",
    "a\tb",
    "\x7f",
  ];
  const made = Array.from({ length: 300 }, () => random.bytes(random.below(12)));
  const words: Word[] = [...texts, ...made];
  for (const size of [127, 128, 129, 786_431, 786_432, 786_433, 2_000_000]) {
    words.push(random.text(size), "é漢😀".repeat(size / 8), random.bytes(size));
  }
  for (const word of words) {
    const text = inJson(word);
    expect(text.includes("\n")).toBe(false);
    const value = JSON.parse(text) as string | { base64: string };
    const back =
      typeof value === "string" ? Buffer.from(value) : Buffer.from(value.base64, "base64");
    expect(Buffer.compare(back, bytesOf(word))).toBe(0);
  }
});

test("what people see is one line, without anything that a terminal obeys, and whole", () => {
  const cases: [Word, string][] = [
    ["user:1", "user:1"],
    ["", '""'],
    ["two words", '"two words"'],
    ['say "hi"\\', '"say \\"hi\\"\\\\"'],
    ["a\r\n\tb", '"a\\r\\n\\tb"'],
    ["\u001b[31mred", '"\\x1b[31mred"'],
    ["漢字é", "漢字é"],
    ["a\u202eb", '"a\\xe2\\x80\\xaeb"'],
    [Uint8Array.from([0x61, 0xff, 0x0a, 0x20]), '"a\\xff\\n "'],
    [Uint8Array.from([0x22, 0x5c, 0x80]), '"\\"\\\\\\x80"'],
  ];
  for (const [word, text] of cases) expect(inText(word)).toBe(text);
  const long = Buffer.alloc(2_000_000, "é\n");
  expect(inText(long)).toBe(`"${"é\\n".repeat(666_666)}é"`);
});

test("aligned columns; the commands of a transaction are joined", () => {
  const transaction = { offset: 200, end: 300 };
  const other = { offset: 300, end: 400 };
  const entries = [
    entryOf(["SET", "a", "1"]),
    entryOf(["SET", "b", "x y"], { offset: 12_345_678, db: 12, transaction }),
    entryOf(["DEL", "c"], { offset: 250, transaction }),
    entryOf(["DEL", "d"], { offset: 350, transaction: other }),
    entryOf(["MOD\u001b"], { atMs: undefined }),
  ];
  expect(shown(entries)).toBe(
    [
      "time                        offset  db  command",
      "2026-12-01T05:06:07.089Z       100   0  SET a 1",
      '2026-12-01T05:06:07.089Z  12345678  12  ┌ SET b "x y"',
      "2026-12-01T05:06:07.089Z       250   0  │ DEL c",
      "2026-12-01T05:06:07.089Z       350   0  ┌ DEL d",
      "unknown                        100   0  MOD?",
      "",
    ].join("\n"),
  );
  expect(shown([])).toBe("");
});

test("long words and many words are cut only where that is asked for", () => {
  const long = "é".repeat(150);
  const many = Array.from({ length: 25 }, (_, n) => `w${n}`);
  const [, cut] = shown([entryOf(["SET", "k", long])], true).split("\n");
  expect(cut).toEndWith(`SET k ${"é".repeat(100)}… (300 bytes)`);
  expect(shown([entryOf(["DEL", ...many])], true)).toEndWith("w18 w19 … (5 more words)\n");
  expect(shown([entryOf(["SET", "k", long])])).toEndWith(`${long}\n`);
  expect(shown([entryOf(["DEL", ...many])])).toEndWith("w24\n");
});
