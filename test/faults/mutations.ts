import type { Random } from "../support/fill.ts";
import type { Transcript } from "./transcripts.ts";

/** What a primary sends on a connection: the first `answers` pieces reply to a command each, the rest follow. */
export interface Speech {
  readonly answers: number;
  readonly pieces: readonly Buffer[];
  /** The mutations, for failure messages. */
  readonly changes: readonly string[];
}

/** Numbers at the limits of integers and doubles. */
const EDGES = [
  "-1",
  "0",
  "1",
  "2147483648",
  "4294967296",
  "9007199254740991",
  "9007199254740992",
  "9223372036854775807",
  "9223372036854775808",
  "18446744073709551616",
  "99999999999999999999999",
  "007",
  "1e3",
  "0x10",
  " 5",
  "",
];

const IDS = [
  "a".repeat(39),
  "a".repeat(41),
  "",
  "?",
  "f".repeat(40),
  "../".repeat(13) + "x",
  "\u0000".repeat(40),
  "z".repeat(5_000),
  "\x1b[2J\x9d0;a title\x07".padEnd(40, "é"),
];

/** @param pick returns the index of a piece that may be changed. */
type Mutation = (
  pieces: Buffer[],
  random: Random,
  pick: () => number,
  others: readonly Transcript[],
) => string;

const oneOf = <T>(values: readonly T[], random: Random): T => values[random.below(values.length)]!;

/** Replaces some bytes of a piece by `middle`. */
function splice(piece: Buffer, from: number, to: number, middle: Uint8Array): Buffer {
  return Buffer.concat([piece.subarray(0, from), middle, piece.subarray(to)]);
}

function inPiece(change: (piece: Buffer, random: Random) => [Buffer, string]): Mutation {
  return (pieces, random, pick) => {
    const at = pick();
    const [changed, what] = change(pieces[at]!, random);
    pieces[at] = changed;
    return `${what} of piece ${at}`;
  };
}

/** Replaces a match of the pattern in one of the pieces by one of these texts. */
function replaceOne(pattern: RegExp, by: readonly string[]): Mutation {
  return (pieces, random, pick) => {
    const found = pieces.flatMap((piece, at) =>
      [...piece.toString("latin1").matchAll(pattern)].map((match) => ({ at, match })),
    );
    // Short lines are as likely as long payloads.
    const places = [...new Set(found.map(({ at }) => at))];
    if (places.length === 0) return "nothing";
    const picked = pick();
    const piece = places.includes(picked) ? picked : oneOf(places, random);
    const inIt = found.filter(({ at }) => at === piece);
    const { match } = oneOf(inIt, random);
    const text = oneOf(by, random);
    const { index } = match;
    pieces[piece] = splice(
      pieces[piece]!,
      index,
      index + match[0].length,
      Buffer.from(text, "latin1"),
    );
    return `${JSON.stringify(match[0].slice(0, 50))} at byte ${index} of piece ${piece} by ${JSON.stringify(text.slice(0, 50))}`;
  };
}

const MUTATIONS: Readonly<Record<string, Mutation>> = {
  flip: inPiece((piece, random) => {
    const changed = Buffer.from(piece);
    const at = random.below(Math.max(1, piece.length));
    if (at < changed.length) changed[at] = changed[at]! ^ (1 << random.below(8));
    return [changed, `a bit at byte ${at}`];
  }),
  overwrite: inPiece((piece, random) => {
    const at = random.below(piece.length + 1);
    const bytes = random.bytes(1 + random.below(20));
    return [splice(piece, at, at + bytes.length, bytes), `${bytes.length} bytes at ${at}`];
  }),
  insert: inPiece((piece, random) => {
    const at = random.below(piece.length + 1);
    const bytes = random.bytes(1 + random.below(20));
    return [splice(piece, at, at, bytes), `${bytes.length} bytes at ${at}`];
  }),
  remove: inPiece((piece, random) => {
    const at = random.below(piece.length + 1);
    const bytes = 1 + random.below(20);
    return [splice(piece, at, at + bytes, Buffer.alloc(0)), `${bytes} bytes at ${at}`];
  }),
  cut: inPiece((piece, random) => {
    const at = random.below(piece.length + 1);
    return [piece.subarray(0, at), `all behind byte ${at}`];
  }),
  newlines: inPiece((piece, random) => {
    const count = 1 + random.below(2_000);
    const end = oneOf(["\n", "\r\n", "\r"], random);
    return [Buffer.concat([Buffer.from(end.repeat(count)), piece]), `${count} newlines in front`];
  }),
  endless: inPiece((piece, random) => {
    const bytes = Buffer.alloc(70_000 + random.below(200_000), oneOf(["x", "$", "+", "0"], random));
    return [splice(piece, 1, 1, bytes), `${bytes.length} bytes without an end in the first line`];
  }),
  number: replaceOne(/\d+/g, EDGES),
  id: replaceOne(/[0-9a-f]{40}/g, IDS),
  verb: replaceOne(/\+[A-Z]+|-ERR|\$EOF:/g, [
    "+FULLRESYNC",
    "+CONTINUE",
    "+OK",
    "-ERR",
    "-ERR unknown command",
    "-NOAUTH",
    "-LOADING",
    "$EOF:",
    "$",
    "*3",
    ">4",
    "",
  ]),
  drop: (pieces, _random, pick) => {
    const at = pick();
    pieces.splice(at, 1);
    return `piece ${at}`;
  },
  twice: (pieces, _random, pick) => {
    const at = pick();
    pieces.splice(at, 0, pieces[at]!);
    return `piece ${at}`;
  },
  swap: (pieces, _random, pick) => {
    const [a, b] = [pick(), pick()];
    [pieces[a], pieces[b]] = [pieces[b]!, pieces[a]!];
    return `pieces ${a} and ${b}`;
  },
  another: (pieces, random, pick, others) => {
    const other = oneOf(others, random);
    const theirs = [...other.answers, ...other.unasked];
    const [from, to] = [random.below(theirs.length), pick()];
    pieces[to] = theirs[from]!;
    return `piece ${to} by piece ${from} of ${other.name}`;
  },
};

const NAMES = Object.keys(MUTATIONS);

/** Applies one to three random mutations to one of these transcripts. */
export function mutated(transcripts: readonly Transcript[], random: Random): Speech {
  const { name, answers, unasked } = oneOf(transcripts, random);
  const pieces = [...answers, ...unasked];
  const changes = [name];
  // An early mutation hides a later one: every second speech is unchanged up to the reply to PSYNC.
  const least = random.below(2) * (answers.length - 1);
  const pick = () => {
    const first = Math.min(least, pieces.length - 1);
    return first + random.below(pieces.length - first);
  };
  for (let left = 1 + random.below(3); left > 0 && pieces.length > 0; left--) {
    const mutation = oneOf(NAMES, random);
    changes.push(`${mutation}: ${MUTATIONS[mutation]!(pieces, random, pick, transcripts)}`);
  }
  return { answers: answers.length, pieces, changes };
}
