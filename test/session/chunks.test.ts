import { describe, expect, test } from "bun:test";
import { bytes, GETACK, MARK, OTHER_REPLID, REPLID, Walk, type WalkOptions } from "./walk.ts";

const ACCEPTED = "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n";
const resume = { replid: REPLID, offset: 41 };

interface Transcript {
  readonly options: WalkOptions;
  readonly says: string;
  /** The states after `receive-pong`, each that is reached. */
  readonly states: string;
  readonly payload: string;
  readonly stream: string;
}

const LOGIN = "receive-port receive-capa receive-version receive-psync";

/** What a primary sends in one life of a link. */
const TRANSCRIPTS: Record<string, Transcript> = {
  "full resync, a length, stream after it": {
    options: {},
    says: `${ACCEPTED}\n\n+FULLRESYNC ${REPLID} 1000\r\n\n$8\r\nREDIS\r\n!stream${GETACK}`,
    states: `${LOGIN} receive-bulk-header transfer connected`,
    payload: "REDIS\r\n!",
    stream: `stream${GETACK}`,
  },
  "full resync, $EOF, a payload that nearly holds the mark": {
    options: { password: "secret", announceIp: "::1" },
    says: `+PONG\r\n+OK\r\n-ERR no\r\n+OK\n+OK\r\n-ERR v\r\n+FULLRESYNC ${REPLID} 1000\r\n$EOF:${MARK}\r\nR${MARK.slice(0, 39)}x${MARK.slice(0, 20)}${MARK}${GETACK}`,
    states:
      "receive-auth receive-port receive-ip receive-capa receive-version receive-psync receive-bulk-header transfer connected",
    payload: `R${MARK.slice(0, 39)}x${MARK.slice(0, 20)}`,
    stream: GETACK,
  },
  "full resync, an empty payload": {
    options: {},
    says: `${ACCEPTED}+FULLRESYNC ${REPLID} 1000\r\n$0\r\nab${GETACK}`,
    states: `${LOGIN} receive-bulk-header transfer connected`,
    payload: "",
    stream: `ab${GETACK}`,
  },
  SYNC: {
    options: {},
    says: `${ACCEPTED}-ERR unknown command 'PSYNC'\r\n\n$3\r\nrdb${GETACK}`,
    states: `${LOGIN} receive-bulk-header transfer connected`,
    payload: "rdb",
    stream: GETACK,
  },
  "partial resync under a new id": {
    options: { resume },
    says: `${ACCEPTED}\r\n+CONTINUE ${OTHER_REPLID}\r\n\nab$3\r\n${GETACK}`,
    states: `${LOGIN} connected`,
    payload: "",
    stream: `\nab$3\r\n${GETACK}`,
  },
  backup: {
    options: { purpose: "snapshot-only" },
    says: `+PONG\r\n+OK\r\n+OK\r\n-ERR v\r\n+FULLRESYNC ${REPLID} 1000\r\n$EOF:${MARK}\r\nrdb${MARK}`,
    states: "receive-capa receive-version receive-psync receive-bulk-header transfer none",
    payload: "rdb",
    stream: "",
  },
  "a refusal in place of the payload": {
    options: {},
    says: `${ACCEPTED}+FULLRESYNC ${REPLID} 1000\r\n\n-ERR can't fork\r\n`,
    states: `${LOGIN} receive-bulk-header connect`,
    payload: "",
    stream: "",
  },
  "a length that isn't one": {
    options: {},
    says: `${ACCEPTED}+FULLRESYNC ${REPLID} 1000\r\n$-5\r\nwhat`,
    states: `${LOGIN} receive-bulk-header connect`,
    payload: "",
    stream: "",
  },
};

interface Outcome {
  /** Every effect but the bytes and the ACKs, whose division follows the chunks'. */
  readonly effects: string[];
  readonly payload: string;
  readonly stream: string;
  readonly acknowledged: number;
  readonly end: string;
}

function run(options: WalkOptions, chunks: Uint8Array[]): { outcome: Outcome; states: string[] } {
  const walk = Walk.opened(options);
  for (const chunk of chunks) walk.say(chunk);
  const divided = new Set(["payload", "stream", "acknowledge"]);
  const outcome = {
    effects: walk.effects
      .filter((effect) => !divided.has(effect.do))
      .map((effect) => JSON.stringify(effect)),
    payload: walk.payload(),
    stream: walk.stream(),
    acknowledged: Math.max(0, ...walk.acknowledged()),
    end: JSON.stringify(walk.state),
  };
  return { outcome, states: walk.states };
}

/** Several moves within one step show only the last, so fewer states may be seen; never others. */
function isPartOf(states: string[], all: string[]): boolean {
  let at = 0;
  for (const state of all) if (state === states[at]) at++;
  return at === states.length;
}

describe.each(Object.entries(TRANSCRIPTS))("%s", (_, transcript) => {
  const { options, says } = transcript;
  const all = bytes(says);
  const single = run(
    options,
    [...all].map((byte) => new Uint8Array([byte])),
  );

  test("one byte at a time", () => {
    const reached = `connect connecting receive-pong ${transcript.states}`;
    expect(single.states).toEqual(reached.split(" "));
    expect(single.outcome.payload).toBe(transcript.payload);
    expect(single.outcome.stream).toBe(transcript.stream);
  });

  test("in one piece", () => {
    const { outcome, states } = run(options, [all]);
    expect(outcome).toEqual(single.outcome);
    expect(isPartOf(states, single.states)).toBe(true);
  });

  test("cut in two at every byte", () => {
    for (let cut = 1; cut < all.length; cut++) {
      const { outcome, states } = run(options, [all.subarray(0, cut), all.subarray(cut)]);
      expect(outcome).toEqual(single.outcome);
      expect(isPartOf(states, single.states)).toBe(true);
      expect(states.at(-1)).toBe(single.states.at(-1)!);
    }
  });
});
