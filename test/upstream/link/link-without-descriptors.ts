import * as fs from "node:fs";
import { isIP } from "../../../src/base/address.ts";
import { Link } from "../../../src/upstream/link/link.ts";

/** Takes all descriptors that there are, connects, and prints what that came to. */
const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
const taken: number[] = [];
// Its rules are loaded at the first use, which in the program is the URL.
isIP("127.0.0.1");
try {
  for (;;) taken.push(fs.openSync("/dev/null", "r"));
} catch {
  const target = { kind: "tcp", host: "127.0.0.1", port: listener.port } as const;
  const files = { caFile: undefined, certFile: undefined, keyFile: undefined };
  const tls = { ...files, serverName: undefined, insecure: false };
  const { promise, resolve } = Promise.withResolvers<string>();
  const link = new Link(target, tls, {
    opened: () => resolve("opened"),
    bytes: () => undefined,
    lost: ({ code, message }) => resolve(`${code} ${message}`),
  });
  const outcome = await promise;
  for (const fd of taken) fs.closeSync(fd);
  console.log(outcome);
  link.close();
  listener.stop();
}
