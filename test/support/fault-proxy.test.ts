import { afterAll, expect, test } from "bun:test";
import type { Direction, Effect, Plan } from "./fault-plan.ts";
import { startFaultProxy } from "./fault-proxy.ts";
import { until } from "./wait.ts";

const proxy = startFaultProxy();

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
});

/** One end of a connection, and how it learned of the end. */
class End {
  readonly chunks: Buffer[] = [];
  over: "no" | "FIN" | "RST" = "no";
  socket: Bun.Socket<unknown> | undefined;

  get came(): string {
    return Buffer.concat(this.chunks).toString();
  }

  /** A connection that is reset before `open` counts as reset. */
  async connect(port: number): Promise<void> {
    const socket = this.handler();
    try {
      await Bun.connect({ hostname: "127.0.0.1", port, allowHalfOpen: true, socket });
    } catch {
      this.over = "RST";
    }
  }

  handler(): Bun.SocketHandler<unknown> {
    return {
      open: (socket) => {
        this.socket = socket;
      },
      data: (_socket, bytes) => {
        this.chunks.push(Buffer.from(bytes));
      },
      end: () => {
        this.over = "FIN";
      },
      close: (_socket, error) => {
        if (this.over === "no") this.over = error === undefined ? "FIN" : "RST";
      },
      error: () => {
        this.over = "RST";
      },
    };
  }
}

/** Both ends of a connection through the proxy, under a plan. */
async function through(plan: Plan) {
  const primary = new End();
  const replica = new End();
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: primary.handler(),
  });
  const route = await proxy.route(listener.port);
  await route.plan([plan]);
  await replica.connect(route.port);
  await until(() => primary.socket ?? replica.over === "RST", { what: "the connection" });
  return {
    primary,
    replica,
    route,
    [Symbol.asyncDispose]: async () => {
      await route[Symbol.asyncDispose]();
      listener.stop(true);
    },
  };
}

const toReplica = (effect: Effect, afterBytes: number, lastsBytes = Infinity): Plan => [
  { direction: "to-replica", afterBytes, effect, ...(lastsBytes < Infinity && { lastsBytes }) },
];

test("passes both directions, and FIN, without a fault", async () => {
  await using ends = await through([]);
  ends.primary.socket!.write("from the primary");
  ends.replica.socket!.write("from the replica");
  await until(() => ends.replica.came === "from the primary", { what: "the one direction" });
  await until(() => ends.primary.came === "from the replica", { what: "the other" });
  ends.primary.socket!.shutdown();
  await until(() => ends.replica.over === "FIN", { what: "the end" });
  ends.replica.socket!.write(", and more");
  await until(() => ends.primary.came.endsWith(", and more"), { what: "what comes after it" });
  expect((await ends.route.count()).passed).toEqual([{ "to-replica": 16, "to-primary": 26 }]);
});

test.each([0, 1, 4])("resets both ends after exactly %i bytes", async (afterBytes) => {
  await using ends = await through(toReplica({ kind: "reset" }, afterBytes));
  ends.primary.socket?.write("12345678");
  await until(() => ends.replica.over === "RST", { what: "the reset" });
  // A reset may discard bytes on their way, but no later byte may arrive.
  expect("12345678".slice(0, afterBytes).startsWith(ends.replica.came)).toBe(true);
  if (ends.primary.socket !== undefined) {
    await until(() => ends.primary.over === "RST", { what: "the primary's reset" });
  }
});

test("half-closes one direction after exactly so many bytes; the other goes on", async () => {
  await using ends = await through(toReplica({ kind: "half-close" }, 4));
  ends.primary.socket!.write("12345678");
  await until(() => ends.replica.over === "FIN", { what: "the end" });
  expect(ends.replica.came).toBe("1234");
  ends.replica.socket!.write("still here");
  await until(() => ends.primary.came === "still here", { what: "the other direction" });
  expect(ends.primary.over).toBe("no");
});

test.each(["to-replica", "to-primary"] as Direction[])(
  "a black hole swallows the bytes %s, and FIN, and nothing else",
  async (direction) => {
    await using ends = await through([]);
    const [from, to] =
      direction === "to-replica" ? [ends.primary, ends.replica] : [ends.replica, ends.primary];
    from.socket!.write("before");
    await until(() => to.came === "before", { what: "what came before" });
    await ends.route.inject(direction, { kind: "black-hole" });
    from.socket!.write("after");
    from.socket!.shutdown();
    to.socket!.write("the other way");
    await until(() => from.came === "the other way", { what: "the other direction" });
    expect([to.came, to.over]).toEqual(["before", "no"]);
  },
);

test("delivers single bytes in many pieces", async () => {
  const pieces = async () => {
    await using ends = await through(toReplica({ kind: "single-bytes" }, 10, 40));
    const text = "0123456789".repeat(10);
    ends.primary.socket!.write(text);
    await until(() => ends.replica.came === text, { what: "all of it" });
    return ends.replica.chunks.length;
  };
  // The kernel joins some of them, on a busy machine most.
  await until(async () => (await pieces()) > 4, { what: "more than four pieces" });
});

test("a delay and a rate pass everything, no sooner than planned", async () => {
  for (const effect of [
    { kind: "delay", ms: 120 },
    { kind: "rate", bytesPerSecond: 10_000 },
  ] as const) {
    await using ends = await through(toReplica(effect, 0));
    const beganMs = performance.now();
    const text = "x".repeat(1000);
    ends.primary.socket!.write(text);
    await until(() => ends.replica.came === text, { what: "all of it" });
    expect(performance.now() - beganMs).toBeGreaterThan(80);
  }
});

test("plans apply to one connection each, the last one to all later ones", async () => {
  await using ends = await through([]);
  const dead: Plan = [{ direction: "to-replica", afterBytes: 0, effect: { kind: "reset" } }];
  await ends.route.plan([dead, []], dead);
  const overs: string[] = [];
  for (const word of ["first", "second", "third", "fourth"]) {
    const end = new End();
    await end.connect(ends.route.port);
    end.socket?.write(word);
    await until(() => end.over !== "no" || ends.primary.came.includes(word), { what: word });
    overs.push(end.over);
  }
  expect(overs).toEqual(["RST", "no", "RST", "RST"]);
  expect((await ends.route.count()).waiting).toBe(0);
});
