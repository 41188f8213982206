import { expect, test } from "bun:test";
import { watchTransfer } from "../../../src/cli/commands/watch-transfer.ts";
import type { State } from "../../../src/session/state.ts";
import { until } from "../../support/wait.ts";
import { Screen } from "./screen.ts";

const atRest = { at: "connect" } as const;

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
  const end = watchTransfer(() => state, screen.output, true);
  try {
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
  watchTransfer(() => transfer, screen.output, enabled)();
  expect(screen.text).toBe("");
});
