import { resetSync } from "@logtape/logtape";
import { afterEach, expect, test } from "bun:test";
import { logWithin } from "../../../src/cluster/follow/log-within.ts";
import { logger } from "../../../src/base/logger.ts";
import { configureLogging } from "../../../src/cli/terminal/logging.ts";
import { Screen } from "../../cli/commands/screen.ts";

afterEach(resetSync);

test("what is logged within belongs to the shard, also from timers and sockets", async () => {
  const screen = new Screen();
  configureLogging({ level: "info", format: "json", output: screen.output });
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: (socket) => {
        socket.end("hello");
      },
      data: () => undefined,
    },
  });
  try {
    await logWithin({ shard: 2 }, async () => {
      logger.info("at once", { more: 1 });
      await new Promise((resolve) => setTimeout(resolve, 1));
      logger.info("after a timer");
      const { promise, resolve } = Promise.withResolvers<void>();
      await Bun.connect({
        hostname: "127.0.0.1",
        port: server.port,
        socket: {
          data: () => {
            logger.info("from a socket", { shard: 3 });
            resolve();
          },
        },
      });
      await promise;
      // What is about the whole cluster, though one shard asked for it.
      await logWithin({}, async () => {
        await Promise.resolve();
        logger.info("of all");
      });
      logger.info("again");
    });
    logger.info("outside");
  } finally {
    server.stop(true);
  }
  const lines = screen.text.trim().split("\n");
  const said = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(said.map(({ message, shard, more }) => [message, shard, more])).toEqual([
    ["at once", 2, 1],
    ["after a timer", 2, undefined],
    ["from a socket", 3, undefined],
    ["of all", undefined, undefined],
    ["again", 2, undefined],
    ["outside", undefined, undefined],
  ]);
});
