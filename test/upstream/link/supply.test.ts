import { describe, expect, test } from "bun:test";
import { realClock } from "../../../src/base/clock.ts";
import { ReplicaError } from "../../../src/base/errors.ts";
import type { PrimaryTarget } from "../../../src/config/primary-url.ts";
import type { State } from "../../../src/session/state.ts";
import { Supply } from "../../../src/upstream/link/supply.ts";
import { until } from "../../support/wait.ts";
import { listenedSignal } from "../../support/listened-signal.ts";

const TLS = {
  caFile: undefined,
  certFile: undefined,
  keyFile: undefined,
  serverName: undefined,
  insecure: false,
};
const CONNECTED: State = {
  at: "connected",
  replid: undefined,
  receivedOffset: 0,
};

/** A server that answers INFO and CLIENT LIST with these texts, and counts the first. */
function answering(info: string, clientList: string) {
  let infos = 0;
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: (socket, bytes) => {
        const isInfo = bytes.includes("INFO");
        if (isInfo) infos++;
        const text = isInfo ? info : clientList;
        socket.write(`$${text.length}\r\n${text}\r\n`);
      },
    },
  });
  const target: PrimaryTarget = {
    kind: "tcp",
    host: "127.0.0.1",
    port: listener.port,
    username: undefined,
    password: undefined,
  };
  return { target, infos: () => infos, [Symbol.dispose]: () => listener.stop(true) };
}

/** Follows that server, and collects the circles that are found; serves on 6380 and feeds 127.0.0.1:40002. */
function supplyOf(target: PrimaryTarget, clock = realClock) {
  const loops: ReplicaError[] = [];
  const fed = [{ address: "127.0.0.1:40002", runId: "" }];
  const options = {
    tls: TLS,
    login: { read: () => undefined },
    syncTimeoutMs: 20_000,
    timeoutMs: 60_000,
    askPrimary: true,
    tellsOfCluster: true,
    runId: "0".repeat(40),
    servedPorts: [6380, 16_380],
    fed: () => fed,
  };
  const supply = new Supply(options, clock, {
    looped: (error) => void loops.push(error),
    changed: () => undefined,
  });
  supply.moved(CONNECTED, target);
  return { supply, loops, fed, [Symbol.dispose]: () => supply.rest() };
}

test("silence is an alarm unless the server says that it is a primary", async () => {
  const silent = /^redis:\/\/127.0.0.1:\d+ has sent nothing for 31 s, not even a PING$/;
  for (const [role, alarm] of [
    ["role:master\r\n", undefined],
    ["", expect.stringMatching(silent)],
    ["role:active-replica\r\n", expect.stringMatching(silent)],
  ]) {
    using server = answering(`# Replication\r\n${role}`, "");
    using following = supplyOf(server.target);
    const { supply } = following;
    await until(() => supply.facts !== undefined, { what: "the answer" });
    expect(supply.trouble(29_000)).toBeUndefined();
    expect<unknown>(supply.trouble(31_000)).toEqual(alarm);
  }
});

const infoOf = (port: number) =>
  `# Replication\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:${port}\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:0\r\n`;

describe("a stock server whose end of its own link has the address of one that is fed from here", () => {
  const list = "id=5 addr=127.0.0.1:1 laddr=127.0.0.1:40002 fd=8 name= flags=M db=0\n";

  test.each([6380, 16_380])("is fed from here if it follows this port: %d", async (port) => {
    using server = answering(infoOf(port), list);
    using following = supplyOf(server.target);
    await until(() => following.loops.length > 0, { what: "the circle" });
    expect(following.loops[0]).toMatchObject({ code: "REPLICATION_LOOP" });
  });

  test("is not if it follows another one: one source port may lead to several places", async () => {
    using server = answering(infoOf(6379), list);
    using following = supplyOf(server.target);
    const { supply, loops, fed } = following;
    await until(() => supply.facts !== undefined, { what: "the answer" });
    // One that attaches makes it ask anew, as soon as the first question and what follows it are answered.
    fed.push({ address: "127.0.0.1:40003", runId: "" });
    await until(
      () => {
        supply.tick(0);
        return server.infos() > 1;
      },
      { what: "the next question" },
    );
    expect(loops).toEqual([]);
    expect(supply.trouble(0)).toBeUndefined();
  });
});

test("what became of a primary is asked for within one --sync-timeout in all", async () => {
  const info = `run_id:${"a".repeat(40)}\r\nuptime_in_seconds:3600\r\nmaster_repl_offset:9000\r\n`;
  let nowMs = 0;
  const asked = Promise.withResolvers<void>();
  using listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: (socket, bytes) => {
        if (bytes.includes("CONFIG")) return asked.resolve();
        // It takes almost all of the time for this, and never answers what comes then.
        nowMs += 19_900;
        socket.write(`$${info.length}\r\n${info}\r\n`);
      },
    },
  });
  const login = { username: undefined, password: undefined };
  const target = { kind: "tcp", host: "127.0.0.1", port: listener.port, ...login } as const;
  const sleeps: number[] = [];
  const clock = {
    ...realClock,
    monotonicMs: () => nowMs,
    sleep: async (ms: number) => {
      sleeps.push(ms);
      await asked.promise;
    },
  };
  using following = supplyOf(target, clock);
  following.supply.rest();
  let cause = "";
  const unexplained = {
    phase: "transfer",
    error: new ReplicaError("LINK_LOST", { message: "lost" }),
    seen: { offset: 0, transfer: undefined, seconds: 1, pausedSeconds: 0 },
  };
  const links = { unexplained, explain: (text: string) => void (cause = text) };
  const { signal, listeners } = listenedSignal();
  await following.supply.explainLast(links as never, target, signal);
  // An outage may take a thousand attempts.
  expect(listeners.size).toBe(0);
  expect(sleeps).toEqual([100]);
  expect(cause).toStartWith("the primary was not restarted, and at most 8.8 KiB of the stream");
});
