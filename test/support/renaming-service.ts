import type { Socket } from "bun";
import { encodeCommand } from "./resp.ts";

/** The commands of replication that a service hides. */
const HIDDEN = ["PSYNC", "SYNC"];

/**
 * A managed service in front of a real server: it knows PSYNC and SYNC by names of its own alone, as Amazon ElastiCache
 * does. A replica sends one command at a time, so each chunk up to PSYNC holds one.
 */
export function renamingService(serverPort: number, names: Readonly<Record<string, string>>) {
  const ends = new Map<Socket, Promise<Socket>>();
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      binaryType: "buffer",
      open: (client) => {
        const server = Bun.connect({
          hostname: "127.0.0.1",
          port: serverPort,
          socket: {
            data: (_, bytes) => void client.write(bytes),
            close: () => void client.end(),
          },
        });
        ends.set(client, server);
      },
      data: async (client, bytes) => {
        const server = await ends.get(client)!;
        const text = bytes.toString("latin1");
        const [, , word = "", ...rest] = text.split("\r\n");
        if (text.startsWith("*") && HIDDEN.includes(word)) {
          client.write(`-ERR unknown command '${word}', with args beginning with: \r\n`);
          return;
        }
        const stock = text.startsWith("*") ? names[word] : undefined;
        if (stock === undefined) server.write(bytes);
        else server.write(encodeCommand([stock, ...rest.filter((_, at) => at % 2 === 1)]));
      },
      close: async (client) => void (await ends.get(client))?.end(),
    },
  });
  return {
    port: listener.port,
    url: `redis://127.0.0.1:${listener.port}`,
    [Symbol.asyncDispose]: async () => listener.stop(true),
  };
}
