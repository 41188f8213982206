import { describe, expect, test } from "bun:test";
import {
  TransferLog,
  type Watched,
  watchTransfer,
} from "../../../src/cli/commands/watch-transfer.ts";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import type { State } from "../../../src/session/state.ts";
import { until } from "../../support/wait.ts";
import { Screen } from "./screen.ts";

const atRest: State = { at: "connect" };
const preparing: State = { at: "receive-bulk-header", waits: "line", grant: { by: "sync" } };

/** What takes a snapshot in this state, with an estimate of its size: it knows it by itself, as what takes one does. */
class Taking implements Watched {
  readonly state: State;
  readonly #expectedBytes: number | undefined;

  constructor(state: State, expectedBytes: number | undefined) {
    this.state = state;
    this.#expectedBytes = expectedBytes;
  }

  expectedBytes(): number | undefined {
    return this.#expectedBytes;
  }
}

function watched(state: State, expectedBytes?: number): Watched {
  return new Taking(state, expectedBytes);
}

/** A transfer of which a quarter has come. */
const transfer: State = {
  at: "transfer",
  grant: { by: "sync" },
  file: "temp.rdb",
  totalBytes: 4096,
  readBytes: 1024,
  finishing: false,
  lost: undefined,
};

test("draws a line on a terminal while a snapshot arrives, and removes it", async () => {
  const screen = new Screen({ isTty: true });
  let state: State = atRest;
  const end = watchTransfer(() => watched(state, 8192), screen.output, true);
  try {
    state = preparing;
    await until(() => screen.plain.includes("snapshot: the primary is preparing it (fork)  0:0"), {
      what: "what is waited for",
    });
    state = { ...transfer, totalBytes: undefined };
    await until(() => screen.plain.includes("1.0 KiB of about 8.0 KiB"), { what: "an estimate" });
    state = atRest;
    await until(() => screen.text.endsWith("\r\x1b[K"), { what: "the line to be removed" });
    state = transfer;
    await until(() => screen.plain.includes("1.0 KiB of 4.0 KiB"), { what: "the line" });
    state = atRest;
    await until(() => screen.text.endsWith("\r\x1b[K"), { what: "the line to be removed" });
  } finally {
    end();
  }
});

test.each([
  ["without a terminal", false, true],
  ["with --no-progress", true, false],
])("%s, draws nothing", (_name, isTty, enabled) => {
  const screen = new Screen({ isTty });
  watchTransfer(() => watched(transfer), screen.output, enabled)();
  expect(screen.text).toBe("");
});

describe("logs every ten seconds", () => {
  /** What is logged while the state is so in each second. */
  function logged(states: readonly Watched[]): string[] {
    const screen = new Screen();
    configureLogging({ level: "info", format: "text", output: screen.output });
    let nowMs = 0;
    let now = watched(atRest);
    const log = new TransferLog(
      () => now,
      () => nowMs,
    );
    for (now of states) {
      nowMs += 1000;
      log.tick();
    }
    return screen.text.split("\n").flatMap((line) => /info {2}(.*)/.exec(line)?.[1] ?? []);
  }

  const seconds = (count: number, state: (second: number) => Watched) =>
    Array.from({ length: count }, (_, second) => state(second));

  test("how far a snapshot is", () => {
    const states = seconds(25, (second) => watched({ ...transfer, readBytes: 64 * second }));
    expect(logged(states)).toEqual([
      "snapshot: 15%, 640 B of 4.0 KiB, 64 B/s, 0:54 left",
      "snapshot: 31%, 1.3 KiB of 4.0 KiB, 64 B/s, 0:44 left",
    ]);
  });

  test("one of unknown length, with an estimate that ends once more has come", () => {
    const states = seconds(25, (second) =>
      watched({ ...transfer, totalBytes: undefined, readBytes: 64 * second }, 1000),
    );
    expect(logged(states)).toEqual([
      "snapshot: 640 B of about 1000 B, 64 B/s, 0:06 left (estimate)",
      "snapshot: 1.3 KiB, 64 B/s",
    ]);
  });

  test("that the primary forks, and nothing of a short transfer", () => {
    const states = [
      ...seconds(25, () => watched(preparing)),
      ...seconds(9, () => watched(transfer)),
      ...seconds(20, () => watched(atRest)),
    ];
    expect(logged(states)).toEqual([
      "snapshot: the primary is preparing it (fork), for 10 s so far",
      "snapshot: the primary is preparing it (fork), for 20 s so far",
    ]);
  });
});
