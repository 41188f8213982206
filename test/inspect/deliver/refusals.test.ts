import { expect, test } from "bun:test";
import { readRefusal } from "../../../src/inspect/deliver/refusals.ts";

const asked = { command: "restore", user: "u", at: "redis://h:1" };

test.each([
  ["BUSYKEY Target key name already exists.", { kind: "exists" }],
  ["LOADING Redis is loading the dataset in memory", { kind: "again", reconnect: false }],
  ["TRYAGAIN Multiple keys request during rehashing of slot", { kind: "again", reconnect: false }],
  ["CLUSTERDOWN The cluster is down", { kind: "again", reconnect: false }],
  ["MASTERDOWN Link with MASTER is down", { kind: "again", reconnect: false }],
  ["NOREPLICAS Not enough good replicas to write.", { kind: "again", reconnect: false }],
  ["READONLY You can't write against a read only replica.", { kind: "again", reconnect: true }],
  ["MOVED 3999 127.0.0.1:6381", { kind: "moved", slot: 3999, address: "127.0.0.1:6381" }],
  ["ASK 3999 ::1:6381", { kind: "ask", slot: 3999, address: "::1:6381" }],
  ["MOVED 3999 :6381", { kind: "moved", slot: 3999, address: ":6381" }],
  ["ERR Bad data format", { kind: "failed" }],
] as const)("reads %s", (text, refusal) => {
  expect(readRefusal(text, asked)).toMatchObject(refusal);
});

test.each([
  [
    "NOPERM User u has no permissions to run the 'restore' command",
    "AUTH_FAILED",
    "ACL SETUSER u +restore",
  ],
  [
    "NOPERM this user has no permissions to run the 'restore' command or its subcommand",
    "AUTH_FAILED",
    "ACL SETUSER u +restore",
  ],
  [
    "NOPERM No permissions to access a key",
    "AUTH_FAILED",
    "grant it these keys, such as with ACL SETUSER u ~*",
  ],
  ["NOAUTH Authentication required.", "AUTH_FAILED", "--into-password-file"],
  [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "TARGET_REFUSED",
    "raise its maxmemory",
  ],
  ["MISCONF Errors writing to the AOF file", "TARGET_REFUSED", "can't save"],
  ["ERR DUMP payload version or checksum are wrong", "TARGET_REFUSED", "an older version"],
  ["ERR unknown command 'RESTORE'", "TARGET_REFUSED", "redis://h:1 refuses restore"],
] as const)("stops at %s", (text, code, message) => {
  const refusal = readRefusal(text, asked);
  if (refusal.kind !== "stop") throw new Error(`it is ${refusal.kind}`);
  expect(refusal.error).toMatchObject({ code, retry: "never" });
  expect(refusal.error.message).toContain(message);
});
