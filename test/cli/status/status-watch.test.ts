import { describe, expect, test } from "bun:test";
import { reasonOf, thrownBy } from "../../support/error-of.ts";
import { InfoConnection } from "../../../src/cli/status/info-connection.ts";
import { parseInfo } from "../../../src/resp/info-text.ts";
import { watchStatus } from "../../../src/cli/status/status-watch.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import { freePort } from "../../support/ports.ts";
import { until } from "../../support/wait.ts";
import { Screen } from "../commands/screen.ts";

const EVERY_MS = 5;
const info = parseInfo("state:connected\nready:1\n");
const away = new ReplicaError("CONNECT_FAILED", { message: "nothing answers" });

/** What is shown for these answers, one per tick, until it is stopped. */
async function watched(
  answers: readonly (typeof info | Error)[],
  options: { json?: boolean; screen?: Screen } = {},
): Promise<Screen> {
  const { json = false, screen = new Screen() } = options;
  const stop = new AbortController();
  let asked = 0;
  await watchStatus({
    at: "h:1",
    ask: async () => {
      const answer = answers[asked++];
      if (asked === answers.length) queueMicrotask(() => stop.abort());
      if (answer instanceof Error) throw answer;
      return answer ?? info;
    },
    json,
    stdout: screen.output,
    signal: stop.signal,
    everyMs: EVERY_MS,
  });
  return screen;
}

test("--json prints one object per line, even while nothing answers", async () => {
  const { text } = await watched([away, info, away, info, info], { json: true });
  const gone = { ready: 0, not_ready_reason: "nothing answers" };
  const there = { state: "connected", ready: 1 };
  const told = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  expect(told.slice(0, 4)).toEqual([gone, there, gone, there]);
});

test("without a terminal, prints block after block and no control sequences", async () => {
  const { text } = await watched([info, away, info, info]);
  const heads = text.split("\n\n").filter((block) => block.startsWith("h:1"));
  expect(heads.slice(0, 3)).toEqual([
    "h:1 is ready",
    "h:1: no answer: nothing answers",
    "h:1 is ready",
  ]);
  expect(text).not.toContain("\x1b");
});

test("ends on an error that asking again would not fix", async () => {
  for (const code of ["AUTH_FAILED", "PROTOCOL"] as const) {
    const error = new ReplicaError(code, { message: "no" });
    expect(await reasonOf(watched([info, error, info]))).toBe(error);
  }
});

describe("on a terminal", () => {
  const BEGIN = "\x1b[?1049h\x1b[?25l";
  const END = "\x1b[?25h\x1b[?1049l";

  test("draws each screen over the one before, and leaves the last one", async () => {
    const screen = await watched([info, away, info, info], { screen: new Screen({ isTty: true }) });
    expect(screen.text).toStartWith(`${BEGIN}\x1b[Hh:1 is ready\x1b[K\n`);
    const [pictures = "", rest = ""] = screen.text.split(END);
    expect(pictures).toContain(
      "\x1b[J\x1b[Hh:1: no answer: nothing answers; the state below is 0 s old\x1b[K\n",
    );
    expect(rest).toStartWith("h:1 is ready\n\nstate");
    expect(rest).not.toContain("\x1b");
    // Lines are cleared only in the same write that redraws them.
    expect(pictures).not.toContain("\x1b[2J");
  });

  test("restores the terminal after an error", async () => {
    const screen = new Screen({ isTty: true });
    expect(await thrownBy(watched([info, new Error("no"), info], { screen }))).toThrow("no");
    expect(screen.text).toContain(END);
  });

  test("fits the screen to the terminal, whose size may change at any time", async () => {
    const size = { isTty: true, columns: 60, rows: 10 };
    const screen = new Screen(size);
    const stop = new AbortController();
    const watching = watchStatus({
      at: "h:1",
      ask: async () => info,
      json: false,
      stdout: screen.output,
      signal: stop.signal,
      // The first screen stays until something else redraws it.
      everyMs: 3_600_000,
    });
    await until(() => screen.text.endsWith("\x1b[J"), { what: "a picture" });
    const sizes = [
      [60, 10],
      [20, 5],
      [1, 1],
      [200, 50],
    ] as const;
    for (const [columns, rows] of sizes) {
      Object.assign(size, { columns, rows });
      screen.text = "";
      expect(screen.resized()).toBe(1);
      const lines = screen.text.replace("\x1b[H", "").split("\x1b[K\n");
      expect(lines.pop()).toBe("\x1b[J");
      expect(lines.length).toBeLessThanOrEqual(Math.max(1, rows - 1));
      expect(lines.length).toBeGreaterThan(0);
      for (const line of lines) {
        expect(Bun.stringWidth(line)).toBeLessThanOrEqual(Math.max(1, columns - 1));
      }
    }
    stop.abort();
    await watching;
    expect(screen.resized()).toBe(0);
  });
});

/** Listens at `port`, answers each INFO and counts connections. */
function answering(port: number, state: string) {
  const text = `state:${state}\r\nready:1\r\n`;
  const counts = { connections: 0, questions: 0 };
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: () => void counts.connections++,
      data: (socket) => {
        counts.questions++;
        socket.write(`$${text.length}\r\n${text}\r\n`);
      },
    },
  });
  return { counts, stop: () => listener.stop(true) };
}

test("reconnects to a replica that goes away and comes back", async () => {
  const port = freePort();
  const connection = new InfoConnection({ host: "127.0.0.1", port }, undefined);
  const screen = new Screen();
  const stop = new AbortController();
  const watching = watchStatus({
    at: `127.0.0.1:${port}`,
    ask: (signal) => connection.ask(signal),
    json: true,
    stdout: screen.output,
    signal: stop.signal,
    everyMs: EVERY_MS,
  });
  const shown = (text: string) =>
    until(() => screen.text.includes(text), { what: `${text} to be shown` });
  await shown("nothing answers at");
  const first = answering(port, "first");
  await until(() => first.counts.questions >= 5, { what: "some questions" });
  first.stop();
  screen.text = "";
  await shown("nothing answers at");
  const second = answering(port, "second");
  await shown('"state":"second"');
  await until(() => second.counts.questions >= 5, { what: "some questions" });
  stop.abort();
  await watching;
  connection.close();
  second.stop();
  expect(first.counts.connections).toBe(1);
  expect(second.counts.connections).toBe(1);
});
