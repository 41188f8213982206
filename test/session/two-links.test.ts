import { describe, expect, test } from "bun:test";
import { ReplicaError } from "../../src/base/errors.ts";
import { Random } from "../support/fill.ts";
import { amount, seedOf } from "../support/sweep.ts";
import { GETACK, MARK, OTHER_REPLID, REPLID, TO_PSYNC, Walk, type WalkOptions } from "./walk.ts";

const TWO: WalkOptions = { wishes: { links: 2 } };
const lost = new ReplicaError("LINK_LOST", { message: "gone" });
const RDB = "REDIS0012 made-up";
const PAYLOAD = `$EOF:${MARK}\r\n${RDB}${MARK}`;
const STREAM = "*1\r\n$4\r\nPING\r\n";

/** The lines of both servers, as they were recorded. */
const BY = {
  redis: {
    granted: "+RDBCHANNELSYNC 42",
    full: `+FULLRESYNC ${REPLID} 1000\r\n`,
    /** What the first link has to be told before its stream. */
    first: [] as string[],
    asked: [] as string[],
  },
  valkey: {
    granted: "+DUALCHANNELSYNC",
    full: `$ENDOFF:1000 ${REPLID} -1 77\r\n`,
    first: ["+OK\r\n", "+CONTINUE\r\n"],
    asked: ["REPLCONF set-rdb-client-id 77", `PSYNC ${REPLID} 1001`],
  },
} as const;
type By = keyof typeof BY;
const WAYS: By[] = ["redis", "valkey"];

/** Up to the open second link. */
function secondOpen(by: By, options: WalkOptions = TWO): Walk {
  const lines = options.password === undefined ? TO_PSYNC : ["+PONG", ...TO_PSYNC];
  const walk = Walk.said(options, ...lines, BY[by].granted);
  walk.step({ type: "second-opened", nowMs: walk.nowMs });
  return walk;
}

/** Up to the grant on the second link. */
function granted(by: By, options: WalkOptions = TWO): Walk {
  const walk = secondOpen(by, options);
  walk.saySecond("+OK\r\n");
  walk.saySecond(BY[by].full);
  return walk;
}

/** Up to the first bytes of the payload, with the stream on the first link. */
function transferring(by: By, options: WalkOptions = TWO): Walk {
  const walk = granted(by, options);
  for (const line of BY[by].first) walk.say(line);
  walk.saySecond(`$EOF:${MARK}\r\n`);
  return walk;
}

function finish(walk: Walk): void {
  walk.saySecond(`${RDB}${MARK}`);
}

describe("what is announced", () => {
  const capabilities = (walk: Walk) => walk.sent().find((command) => command.includes("capa"));

  test("both names of two links, where a full sync may take two", () => {
    expect(capabilities(Walk.said(TWO, ...TO_PSYNC))).toBe(
      "REPLCONF capa eof capa psync2 capa rdb-channel-repl capa dual-channel",
    );
  });

  test("neither, where it may take one, and for a backup", () => {
    const one = "REPLCONF capa eof capa psync2";
    expect(capabilities(Walk.said({}, ...TO_PSYNC))).toBe(one);
    const backup = Walk.said({ ...TWO, purpose: "snapshot-only" }, "+PONG", "+OK");
    expect(capabilities(backup)).toBe(one);
  });

  test.each(WAYS)("%s grants two links to whoever asked for one: an error", (by) => {
    const walk = Walk.said({}, ...TO_PSYNC, BY[by].granted);
    expect(walk.error().code).toBe("PROTOCOL");
    expect(walk.error().message).toContain(BY[by].granted);
  });
});

describe.each(WAYS)("%s", (by) => {
  const how = BY[by];

  test("opens a second link, which says no PING, logs in, and names the first one", () => {
    const walk = secondOpen(by, { ...TWO, password: "secret", announceIp: undefined });
    walk.saySecond("+OK\r\n");
    walk.saySecond("+OK\r\n");
    expect(walk.done("open-second")).toHaveLength(1);
    const replconf =
      by === "redis"
        ? "REPLCONF capa eof rdb-only 1 rdb-channel 1 main-ch-client-id 42 listening-port 6380"
        : "REPLCONF capa eof rdb-only 1 rdb-channel 1 listening-port 6380 version 255.255.255";
    const asks = by === "redis" ? "PSYNC ? -1" : "SYNC";
    expect(walk.sentOnSecond()).toEqual(["AUTH secret", replconf, asks]);
    expect(walk.state).toMatchObject({ at: "receive-psync", second: "sync" });
  });

  test("announces the address on both links, for Sentinel", () => {
    const walk = Walk.said(
      { ...TWO, announceIp: "10.0.0.9" },
      "+PONG",
      "+OK",
      "+OK",
      "+OK",
      "-ERR Unrecognized REPLCONF option: version",
      how.granted,
    );
    walk.step({ type: "second-opened", nowMs: walk.nowMs });
    expect(walk.sentOnSecond().join()).toContain("ip-address 10.0.0.9 listening-port 6380");
  });

  test("the first link is told what the second one was granted, and the stream begins behind the snapshot", () => {
    const walk = transferring(by);
    expect(walk.sent().slice(5)).toEqual([...how.asked]);
    expect(walk.state).toMatchObject({
      at: "transfer",
      first: { does: "stream" },
      grant: { by: "psync", position: { replid: REPLID, offset: 1000 } },
    });
    walk.say(STREAM);
    finish(walk);
    expect([walk.payload(), walk.stream()]).toEqual([RDB, STREAM]);
    expect(walk.done("close-one")).toEqual([{ do: "close-one", link: "second" }]);
    expect(walk.state).toMatchObject({ at: "connected", receivedOffset: 1000 + STREAM.length });
    expect(walk.states).toEqual([
      "connect",
      "connecting",
      "receive-pong",
      "receive-port",
      "receive-capa",
      "receive-version",
      "receive-psync",
      "receive-bulk-header",
      "transfer",
      "connected",
    ]);
  });

  test("the same comes of it however both links' bytes are cut", () => {
    const second = `+OK\r\n\n${how.full}\n\n${PAYLOAD}`;
    const first = [...how.first, STREAM, GETACK].join("");
    for (let cut = 0; cut <= second.length; cut++) {
      const walk = secondOpen(by);
      walk.saySecond(second.slice(0, cut));
      const isGranted = walk.state.at !== "receive-psync";
      if (isGranted || by === "redis") walk.say(first);
      walk.saySecond(second.slice(cut));
      if (!(isGranted || by === "redis")) walk.say(first);
      expect([cut, walk.payload(), walk.stream()]).toEqual([cut, RDB, STREAM + GETACK]);
      expect(walk.state.at).toBe("connected");
    }
    for (let cut = 0; cut <= first.length; cut++) {
      const walk = granted(by);
      walk.say(first.slice(0, cut));
      walk.saySecond(PAYLOAD);
      walk.say(first.slice(cut));
      expect([cut, walk.payload(), walk.stream()]).toEqual([cut, RDB, STREAM + GETACK]);
      expect(walk.state.at).toBe("connected");
    }
  });

  test("stream that comes before there is a file for it is held until then", () => {
    const walk = granted(by, { ...TWO, storeAnswers: false });
    for (const line of how.first) walk.say(line);
    walk.say(STREAM);
    walk.saySecond(PAYLOAD);
    expect(walk.stream()).toBe("");
    walk.snapshotOpened();
    expect([walk.stream(), walk.payload()]).toEqual([STREAM, RDB]);
  });

  test("nothing is acknowledged before the snapshot is kept, a GETACK neither, and the primary hears from the first link", () => {
    const walk = transferring(by, { ...TWO, storeAnswers: false });
    walk.snapshotOpened();
    walk.say(GETACK);
    walk.tick(1_000);
    walk.tick(1_000);
    expect(walk.acknowledged()).toEqual([]);
    expect(walk.sent().filter((command) => command === "\n")).toHaveLength(2);
    finish(walk);
    walk.snapshotKept();
    expect(walk.acknowledged()).toEqual([1000 + GETACK.length]);
  });

  test("the end of the second link behind its payload is nothing special", () => {
    const walk = transferring(by, { ...TWO, storeAnswers: false });
    walk.snapshotOpened();
    finish(walk);
    walk.step({ type: "second-lost", error: lost });
    walk.saySecond("rest");
    walk.snapshotKept();
    expect(walk.state.at).toBe("connected");
    walk.step({ type: "second-lost", error: lost });
    expect(walk.state.at).toBe("connected");
  });

  test("a first link that is lost amid the payload leaves the snapshot to the second, and the stream to the next attempt", () => {
    const walk = transferring(by);
    walk.say(STREAM);
    walk.step({ type: "lost", error: lost });
    walk.say("late");
    expect(walk.state).toMatchObject({ at: "transfer", lost });
    expect(walk.names()).not.toContain("discard-snapshot");
    finish(walk);
    expect([walk.payload(), walk.stream()]).toEqual([RDB, STREAM]);
    expect(walk.error()).toBe(lost);
    expect(walk.names()).not.toContain("discard-snapshot");
    expect(walk.state.at).toBe("connect");
  });

  test.each(["before the grant", "before the payload", "amid the payload"])(
    "a second link that is lost %s ends the attempt",
    (when) => {
      const walk =
        (
          { "before the grant": secondOpen, "before the payload": granted } as Record<
            string,
            typeof secondOpen
          >
        )[when]?.(by) ?? transferring(by);
      walk.step({ type: "second-lost", error: lost });
      expect(walk.error()).toBe(lost);
      expect(walk.names()).toContain("close-link");
      expect(walk.names().includes("discard-snapshot")).toBe(when === "amid the payload");
      expect(walk.state.at).toBe("connect");
    },
  );

  test("a first link that is lost before the grant ends the attempt", () => {
    const walk = secondOpen(by);
    walk.step({ type: "lost", error: lost });
    expect(walk.error()).toBe(lost);
  });

  test("one that is lost after the grant leaves the snapshot to the second link", () => {
    const walk = granted(by);
    walk.step({ type: "lost", error: lost });
    expect(walk.state).toMatchObject({ at: "receive-bulk-header", first: { does: "lost" } });
    walk.saySecond(PAYLOAD);
    expect(walk.payload()).toBe(RDB);
    expect(walk.names()).not.toContain("discard-snapshot");
    expect(walk.error()).toBe(lost);
  });

  test.each([
    "-ERR max number of clients reached",
    "-NOPERM this user has no permissions",
    "+CONTINUE",
    ":1",
    "+RDBCHANNELSYNC 7",
    "$-1",
    "$ENDOFF:x y z",
    `+FULLRESYNC ${REPLID}`,
  ])("%s in place of a reply on the second link ends the attempt, and names it", (line) => {
    const before = secondOpen(by);
    if (!line.startsWith("+")) {
      before.saySecond(`${line}\r\n`);
      expect(before.error().message).toContain(line);
    }
    const asked = secondOpen(by);
    asked.saySecond("+OK\r\n");
    asked.saySecond(`${line}\r\n`);
    expect(asked.state.at).toBe("connect");
    expect(asked.error().message.length).toBeGreaterThan(20);
    const payload = granted(by);
    if (line === "$-1" || !line.startsWith("$")) {
      payload.saySecond(`${line}\r\n`);
      expect(payload.state.at).toBe("connect");
    }
  });

  test.each([`$EOF:${MARK}\r\n${RDB}`, `$${RDB.length}\r\n${RDB}`, "-ERR no", "rubbish\r\n"])(
    "%p on the first link in place of the stream ends the attempt",
    (bytes) => {
      const walk = granted(by);
      walk.say(bytes.startsWith("-") ? `${bytes}\r\n` : bytes);
      expect(walk.state.at).toBe("connect");
      expect(walk.error().message).toContain("on the first link");
      expect(walk.stream()).toBe("");
    },
  );

  test("a payload of known length is taken as well, and what comes behind it on the second link is not", () => {
    const walk = granted(by);
    for (const line of how.first) walk.say(line);
    walk.saySecond(`$${RDB.length}\r\n${RDB}${STREAM}`);
    expect([walk.payload(), walk.stream()]).toEqual([RDB, ""]);
    expect(walk.state.at).toBe("connected");
  });

  test("silence: of the second link by the limits of one, of the first by its own", () => {
    const opening = Walk.said(TWO, ...TO_PSYNC, how.granted);
    opening.tick(5_000);
    expect(opening.error().code).toBe("TIMED_OUT");
    const replying = secondOpen(by);
    replying.tick(4_999);
    replying.saySecond("+OK\r\n");
    replying.tick(4_999);
    replying.saySecond("\n");
    replying.tick(4_999);
    expect(replying.state.at).toBe("receive-psync");
    const payload = transferring(by);
    for (let second = 0; second < 59; second++) {
      payload.say(STREAM);
      payload.tick(1_000);
    }
    expect(payload.state.at).toBe("transfer");
    payload.tick(1_000);
    expect(payload.error().code).toBe("TIMED_OUT");
    const stream = transferring(by);
    for (let second = 0; second < 60; second++) {
      stream.saySecond("x");
      stream.tick(1_000);
    }
    expect(stream.state).toMatchObject({ at: "transfer", lost: { code: "TIMED_OUT" } });
    expect(stream.done("close-one")).toEqual([{ do: "close-one", link: "first" }]);
  });

  test("a link that is paused for the disk is not silent", () => {
    const walk = transferring(by);
    for (let second = 0; second < 100; second++) {
      walk.nowMs += 1_000;
      walk.step({ type: "tick", nowMs: walk.nowMs, paused: true, secondPaused: true });
    }
    expect(walk.state).toMatchObject({ at: "transfer", lost: undefined });
  });

  test("REPLICAOF NO ONE ends both links, wherever they stand", () => {
    for (const walk of [secondOpen(by), granted(by), transferring(by)]) {
      walk.step({ type: "leave" });
      expect(walk.state).toEqual({ at: "none" });
      expect(walk.names()).toContain("close-link");
      const before = walk.effects.length;
      walk.step({ type: "second-lost", error: lost });
      walk.step({ type: "second-opened", nowMs: walk.nowMs });
      expect(walk.effects).toHaveLength(before);
    }
  });

  test("the next attempt starts afresh", () => {
    const walk = transferring(by);
    walk.step({ type: "second-lost", error: lost });
    walk.attempt();
    walk.step({ type: "opened", nowMs: walk.nowMs });
    for (const line of [...TO_PSYNC, `+FULLRESYNC ${REPLID} 5`, `$${RDB.length}`]) {
      walk.say(`${line}\r\n`);
    }
    walk.say(`${RDB}${STREAM}`);
    expect(walk.state.at).toBe("connected");
    expect(walk.stream()).toBe(STREAM);
  });
});

describe("valkey's first link", () => {
  test("a snapshot that is complete first waits until the stream is granted", () => {
    const walk = granted("valkey");
    walk.saySecond(PAYLOAD);
    expect(walk.names()).not.toContain("finish-snapshot");
    walk.say("+OK\r\n");
    walk.say("+CONTINUE\r\n");
    expect(walk.state.at).toBe("connected");
  });

  test("or until that link is lost, or silent for too long", () => {
    const broken = granted("valkey");
    broken.saySecond(PAYLOAD);
    broken.step({ type: "lost", error: lost });
    expect(broken.names()).toContain("finish-snapshot");
    expect(broken.error()).toBe(lost);
    const silent = granted("valkey");
    silent.saySecond(PAYLOAD);
    silent.tick(5_000);
    expect(silent.names()).toContain("finish-snapshot");
    expect(silent.error().code).toBe("TIMED_OUT");
  });

  test.each([
    ["-ERR unknown client", []],
    ["-ERR no", ["+OK"]],
    [`+FULLRESYNC ${REPLID} 1000`, ["+OK"]],
    [`+CONTINUE ${OTHER_REPLID}`, ["+OK"]],
  ])("%s there ends the attempt", (line, before) => {
    const walk = granted("valkey");
    for (const one of before) walk.say(`${one}\r\n`);
    walk.say(`${line}\r\n`);
    expect(walk.state.at).toBe("connect");
    expect(walk.error().message).toContain(line);
  });
});

const SEED = seedOf("TWO_LINKS_SEED");
const CASES = amount("TWO_LINKS_CASES", { sample: 2_000, full: 50_000 });

/** Harms a text in one of the ways in which peers do. */
function harmed(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  const lines = text.split("\r\n");
  const line = random.below(lines.length);
  switch (random.below(6)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return `${text.slice(0, at)}${String.fromCharCode(random.below(256))}${text.slice(at + 1)}`;
    case 2:
      return `${text.slice(0, at)}${text.slice(random.below(text.length + 1))}`;
    case 3:
      return lines.toSpliced(line, 1, "-ERR no").join("\r\n");
    case 4:
      return lines.toSpliced(line, 0, lines[random.below(lines.length)]!).join("\r\n");
    default:
      return text.replace(/\d+/, ["-1", "99999999999999999999", "0", ""][random.below(4)]!);
  }
}

test("whatever both links say in whatever order, nothing is acknowledged that isn't kept", () => {
  const ends = new Map<string, number>();
  for (let n = 0; n < CASES; n++) {
    const random = new Random(SEED + n);
    const by = WAYS[random.below(2)]!;
    const isHarmed = random.below(4) > 0;
    const harm = (text: string) =>
      isHarmed && random.below(2) === 0 ? harmed(text, random) : text;
    const links = {
      first: harm([...BY[by].first, STREAM, GETACK, STREAM].join("")),
      second: harm(`+OK\r\n${BY[by].full}${PAYLOAD}`),
    };
    const sent = { ...links };
    const walk = secondOpen(by, { ...TWO, storeAnswers: false });
    const did = (what: string) => walk.names().includes(what);
    for (let left = 60; left > 0 && (links.first + links.second).length > 0; left--) {
      const link = random.below(2) === 0 ? "first" : "second";
      // The first link of Valkey is asked for nothing before the grant.
      const isAsked = link === "second" || by === "redis" || walk.state.at !== "receive-psync";
      const bytes = isAsked ? links[link].slice(0, 1 + random.below(40)) : "";
      links[link] = links[link].slice(bytes.length);
      if (link === "first") walk.say(bytes);
      else walk.saySecond(bytes);
      if (walk.state.at === "receive-bulk-header" && did("open-snapshot") && random.below(2) === 0)
        walk.snapshotOpened();
      if (random.below(30) === 0) walk.tick(random.below(3_000));
      if (random.below(80) === 0) walk.step({ type: "lost", error: lost });
      if (random.below(80) === 0) walk.step({ type: "second-lost", error: lost });
      if (walk.state.at === "transfer" && walk.state.finishing) walk.snapshotKept();
      const told = `TWO_LINKS_SEED=${SEED + n} TWO_LINKS_CASES=1 ${JSON.stringify(sent)}`;
      const isKept = did("finish-snapshot");
      expect([told, walk.acknowledged().length > 0 && !isKept]).toEqual([told, false]);
      expect([told, walk.payload().length > 0 && !did("open-snapshot")]).toEqual([told, false]);
      expect(sent.first).toContain(walk.stream());
      if (isKept) expect(sent.second).toContain(walk.payload());
    }
    ends.set(walk.state.at, (ends.get(walk.state.at) ?? 0) + 1);
  }
  // Both ends were met, so it was neither all harm nor none.
  expect(ends.get("connect")).toBeGreaterThan(0);
  expect(ends.get("connected")).toBeGreaterThan(0);
}, 180_000);
