import { tmpdir } from "node:os";

// Loaded before every test file (bunfig.toml): what whoever starts the tests has exported changes none of them. A
// test hands `process.env` on to the programs that it starts; without `env`, Bun.spawn takes the variables of the start.

/** Settings of ours and of the servers' tools, languages, colours, proxies, and what service managers and runtimes read. */
const FOREIGN = [
  /^REPLICA_(?!TEST_)/,
  /^REDISCLI_/,
  /^(?:LANG|LANGUAGE|LC_\w+)$/,
  /^(?:NO_COLOR|FORCE_COLOR|CLICOLOR\w*|COLORTERM|TERM|COLUMNS|LINES)$/,
  /^\w+_proxy$/i,
  /^(?:NOTIFY_SOCKET|WATCHDOG_\w+|LISTEN_\w+)$/,
  /^(?:NODE_\w+|BUN_OPTIONS|SSL_CERT_\w+|DEBUG)$/,
];

/** The folder of a test's files and the socket in it still fit into a socket's path behind one of this length. */
const TMPDIR_MAX_BYTES = 32;

for (const name of Object.keys(process.env)) {
  if (FOREIGN.some((pattern) => pattern.test(name))) delete process.env[name];
}
process.env["TZ"] = "UTC";
// The one that every machine has. Redis 8 and Valkey don't start with one that is missing.
process.env["LC_ALL"] = "C";
if (Buffer.byteLength(tmpdir()) > TMPDIR_MAX_BYTES) process.env["TMPDIR"] = "/tmp";
process.umask(0o022);
