import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { crc64 } from "../../src/rdb/crc64.ts";
import { MARK, REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, eofPayload, untilSync } from "../support/fake-primary.ts";
import { Random } from "../support/fill.ts";
import { availableServers } from "../support/servers.ts";
import { encodeCommand } from "../support/resp.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { handshake, HostileStage, say } from "./hostile-stage.ts";
import { mutated } from "./mutations.ts";
import { record, type Transcript } from "./transcripts.ts";

/** More cases: `FUZZ_CASES=20000 bun test test/faults/hostile-primary.test.ts`. */
const CASES = amount("FUZZ_CASES", { sample: 40, full: 400 });
const SEED = seedOf("FUZZ_SEED");

setDefaultTimeout(120_000 + CASES * 2_000);

const MIB = 2 ** 20;
/** More than garbage and what may wait for the disk; less than what the primary sends. */
const FLAT_BYTES = 192 * MIB;

let transcripts: Transcript[] = [];

beforeAll(async () => {
  const kinds = availableServers().filter((kind) => kind === "redis-7.0" || kind === "valkey-9");
  transcripts = (await Promise.all(kinds.map(record))).flat();
  console.log(`from records of ${kinds.join(" and ")}`);
});

test.concurrent.each([0, 1, 2, 3])("mutated transcripts harm nothing (%i of 4)", async (shard) => {
  await using stage = new HostileStage("--sync-timeout", "150ms");
  await stage.followed();
  let accepted = 0;
  let cases = 0;
  for (let seed = SEED + shard; seed < SEED + CASES; seed += 4) {
    const speech = mutated(transcripts, new Random(seed));
    try {
      const outcome = await stage.suffer(async (peer) => await say(peer, speech));
      if (outcome.accepted) accepted++;
      cases++;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const again = `FUZZ_SEED=${seed} FUZZ_CASES=1`;
      throw new Error(`${again}: ${speech.changes.join("; ")}\n${why}`, { cause: error });
    }
  }
  await stage.stop();
  // A stream may hold any bytes; nothing else may be damaged.
  const { damages, generations } = await stage.verified();
  expect(damages.filter(({ file }) => !file.endsWith(".incr.aof"))).toEqual([]);
  expect(generations.at(-1)).toMatchObject({ state: "current" });
  console.log(`${accepted} of ${cases} cases were accepted`);
});

/** A valid snapshot with these auxiliary fields, already encoded. */
function rdbWith(...fields: (string | Buffer)[]): Buffer {
  const bytes = fields.map((field) => (typeof field === "string" ? Buffer.from(field) : field));
  const body = Buffer.concat([Buffer.from("REDIS0009"), ...bytes, Buffer.from([0xff])]);
  const checksum = Buffer.alloc(8);
  checksum.writeBigUInt64LE(crc64(body));
  return Buffer.concat([body, checksum]);
}

/** Encodes an auxiliary field as a server does. */
const aux = (key: string, value: string): Buffer =>
  Buffer.from(
    `\xfa${String.fromCharCode(key.length)}${key}${String.fromCharCode(value.length)}${value}`,
    "latin1",
  );

interface Case {
  readonly name: string;
  readonly play: (peer: FakePeer) => Promise<void>;
  readonly says: RegExp;
  /** Whether a primary may say this. */
  readonly accepted?: boolean;
}

/** A reply to PSYNC, and everything after it. */
function toPsync(
  name: string,
  says: RegExp,
  spoken: string | readonly (string | Uint8Array)[],
  accepted = false,
): Case {
  const play = async (peer: FakePeer) => {
    await handshake(peer);
    for (const piece of typeof spoken === "string" ? [spoken] : spoken) await peer.send(piece);
  };
  return { name, says, play, accepted };
}

/** A reply in place of a snapshot. */
const toFull = (name: string, says: RegExp, ...spoken: (string | Uint8Array)[]): Case =>
  toPsync(name, says, [`+FULLRESYNC ${REPLID} 5\r\n`, ...spoken]);

const gone = /the primary (reset the connection|closed the link)/;
const isNoId = /a replication id has 40 letters and digits/;
const isNoLength = /a snapshot's length is a whole number up to 2\^53/;
const isNoMark = /a snapshot's EOF delimiter has 40 bytes/;
const GETACK = encodeCommand(["REPLCONF", "GETACK", "*"]);
const sound = bulkPayload(smallRdb("of a hostile primary"));

const cases: readonly Case[] = [
  ...[
    "",
    "a".repeat(39),
    "a".repeat(41),
    `${"a".repeat(39)}-`,
    "../../../etc/passwd".padEnd(40, "/"),
  ].map((id) => toPsync(`a full resync of the id "${id}"`, isNoId, `+FULLRESYNC ${id} 5\r\n`)),
  toPsync("a continuation under an id of 41", isNoId, `+CONTINUE ${"a".repeat(41)}\r\n`),
  toPsync("a continuation under another id", gone, `+CONTINUE ${REPLID}\r\n`, true),
  toPsync(
    "a full resync to a lower offset",
    gone,
    [`+FULLRESYNC ${"c".repeat(40)} 0\r\n`, sound, GETACK],
    true,
  ),
  // In one piece: the stream arrives before the snapshot is kept.
  toPsync(
    "a full resync to the highest offset, and a stream after it",
    /a replication offset is a whole number up to 2\^52/,
    [
      Buffer.concat([
        Buffer.from(`+FULLRESYNC ${"d".repeat(40)} ${Number.MAX_SAFE_INTEGER - 1}\r\n`),
        sound,
        GETACK,
      ]),
    ],
  ),
  toPsync("a full resync to no offset", /a replication offset is/, `+FULLRESYNC ${REPLID} -1\r\n`),
  ...["-1", "9007199254740992", "9223372036854775808", "18446744073709551615", "+5", "5 5", ""].map(
    (length) => toFull(`a payload of "${length}" bytes`, isNoLength, `$${length}\r\n`),
  ),
  toFull(
    "a payload of 2^53 - 1 bytes",
    /the snapshot has 9007199254740991 bytes, .* has room for/,
    `$${Number.MAX_SAFE_INTEGER}\r\n`,
  ),
  ...[39, 41, 0].map((bytes) =>
    toFull(`a mark of ${bytes} bytes`, isNoMark, `$EOF:${"m".repeat(bytes)}\r\n`),
  ),
  toFull("a payload of nothing", /ends after 0 bytes, inside its header/, "$0\r\n"),
  toFull("nothing between mark and mark", /ends after 0 bytes/, eofPayload(Buffer.alloc(0), MARK)),
  toFull("another answer before the payload", /a snapshot begins with/, "+CONTINUE\r\n", sound),
  toFull(
    "a field that takes 2^63 bytes",
    /the auxiliary fields of the RDB take more than 65536 bytes/,
    bulkPayload(rdbWith(Buffer.from("fa81ffffffffffffffff", "hex"))),
  ),
  toFull(
    "fields without an end",
    /the auxiliary fields of the RDB take more than 65536 bytes/,
    bulkPayload(rdbWith(...Array.from({ length: 10_000 }, () => aux("key", "value")))),
  ),
  toFull(
    "a field that isn't a string",
    /an auxiliary field of the RDB is malformed/,
    bulkPayload(rdbWith(Buffer.from([0xfa, 0xff]))),
  ),
  toFull(
    "a snapshot with a flipped bit",
    /the snapshot of 50 bytes states the checksum [0-9a-f]{16}, but has [0-9a-f]{16}/,
    sound.map((byte, at) => (at === sound.length - 15 ? byte ^ 1 : byte)),
  ),
  toFull(
    "bytes that aren't a snapshot",
    /an RDB begins with REDIS or VALKEY/,
    bulkPayload(Buffer.alloc(999)),
  ),
  ...["-3", "1e3", "99999999999999999999", "16\r\n*1\r\n$8\r\nFLUSHALL"].map((db) =>
    toPsync(
      `a stream in database ${JSON.stringify(db)}`,
      gone,
      [`+FULLRESYNC ${REPLID} 5\r\n`, bulkPayload(rdbWith(aux("repl-stream-db", db)))],
      true,
    ),
  ),
  {
    name: "a primary that knows only SYNC, with an invalid history in its snapshot",
    says: gone,
    accepted: true,
    play: async (peer) => {
      await handshake(peer);
      await peer.send("-ERR unknown command 'PSYNC'\r\n");
      await untilSync(peer);
      const rdb = rdbWith(aux("repl-id", "short"), aux("repl-offset", "-77"));
      await peer.send(bulkPayload(rdb));
      await peer.send(GETACK);
    },
  },
  toPsync(
    "a stream that isn't RESP",
    gone,
    ["+CONTINUE\r\n", "$-1\r\n*-5\r\n+OK\r\n", new Uint8Array(5_000)],
    true,
  ),
  toPsync("a second snapshot in the stream", gone, ["+CONTINUE\r\n", sound, sound], true),
];

async function expectOutcome(stage: HostileStage, one: Case): Promise<void> {
  const { name, play, says, accepted = false } = one;
  const outcome = await stage.suffer(play).catch((error: unknown) => {
    throw new Error(`${name}: ${String(error)}`, { cause: error });
  });
  expect(outcome.reasons[0], name).toMatch(says);
  expect(outcome.accepted, name).toBe(accepted);
}

test.concurrent("invalid replies are refused with a reason", async () => {
  await using stage = new HostileStage();
  await stage.followed();
  for (const one of cases) await expectOutcome(stage, one);
  await stage.stop();
});

test.concurrent("+CONTINUE is refused by a replica that asked for a full resync", async () => {
  await using stage = new HostileStage();
  const spoken = ["+CONTINUE\r\n", GETACK];
  const says = /the primary continues a stream that was not asked for/;
  await expectOutcome(stage, toPsync("a continuation", says, spoken));
});

/** Sends the same piece `times` times. */
const again = (piece: Uint8Array, times: number) => async (peer: FakePeer) => {
  for (let left = times; left > 0; left--) await peer.send(piece);
};

const NEWLINES = Buffer.alloc(MIB, "\n");
/** The mark without its last byte, again and again. */
const NEARLY = Buffer.alloc(MIB, MARK.slice(0, 39));
const noEnd = /got a line longer than 65536 bytes/;

const heavy: readonly Case[] = [
  {
    name: "an endless answer to PING",
    says: noEnd,
    play: async (peer) => {
      await peer.readCommand();
      await again(Buffer.alloc(MIB, "+"), 200)(peer);
    },
  },
  {
    name: "an endless bulk header",
    says: noEnd,
    play: async (peer) => {
      await toFull("", noEnd).play(peer);
      await again(Buffer.alloc(MIB, "$"), 200)(peer);
    },
  },
  {
    name: "millions of keepalives before each answer",
    says: gone,
    accepted: true,
    play: async (peer) => {
      await handshake(peer);
      await again(NEWLINES, 3)(peer);
      await peer.send(`+FULLRESYNC ${REPLID} 5\r\n`);
      await again(NEWLINES, 3)(peer);
      await peer.send(sound);
      await peer.readAck(5);
    },
  },
  {
    name: "an EOF mark that is never complete",
    says: /the primary (reset the connection|closed the link) after 300\.0 MiB in/,
    play: async (peer) => {
      await toFull("", gone, `$EOF:${MARK}\r\n`, smallRdb("x").subarray(0, 20)).play(peer);
      await again(NEARLY, 300)(peer);
    },
  },
  {
    name: "a payload longer than its snapshot",
    says: gone,
    play: async (peer) => {
      await toFull("", gone, `$${500 * MIB}\r\n`, smallRdb("x")).play(peer);
      await again(NEARLY, 200)(peer);
    },
  },
  {
    name: "a stream of GETACKs whose ACKs are not read",
    says: gone,
    accepted: true,
    play: async (peer) => {
      await handshake(peer);
      await peer.send("+CONTINUE\r\n");
      peer.pause();
      await again(Buffer.concat(Array<Buffer>(1_000).fill(GETACK)), 500)(peer);
    },
  },
  {
    name: "a flood of invalid stream while the snapshot is being finished",
    says: gone,
    accepted: true,
    play: async (peer) => {
      await toFull("", gone, sound).play(peer);
      await again(Buffer.alloc(MIB, "*-1\r\n"), 200)(peer);
      await peer.readAck(5 + 200 * MIB);
    },
  },
];

test.concurrent(
  "endless replies take no memory, and leave the kept generations undamaged",
  async () => {
    await using stage = new HostileStage("--sync-timeout", "10s");
    await stage.followed();
    const rssBefore = stage.replica.rssPeakBytes();
    const [kept] = (await stage.verified()).generations;
    for (const one of heavy) {
      await expectOutcome(stage, one);
      const moreBytes = stage.replica.rssPeakBytes() - rssBefore;
      expect(moreBytes, one.name).toBeLessThan(FLAT_BYTES);
    }
    await stage.stop();
    const { generations, damages } = await stage.verified();
    expect(generations[0]).toMatchObject({ id: 1, ok: true, rdb: kept!.rdb });
    expect(generations.at(-1)).toMatchObject({ state: "current", ok: true });
    // The invalid stream is reported with its position: after the SELECT.
    expect(generations.filter(({ ok }) => !ok)).toMatchObject([{ from_offset: 5 }]);
    expect(damages).toMatchObject([
      { byte: 24, what: expect.stringContaining("expected a digit") },
    ]);
  },
);
