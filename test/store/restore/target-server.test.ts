import { expect, test } from "bun:test";
import {
  parseTargetServer,
  refuseOther,
  refuseUnloadable,
  type TargetServer,
} from "../../../src/store/restore/target-server.ts";
import { errorOf } from "../../support/error-of.ts";

const redis = (version: number) => ({ magic: "REDIS" as const, version });
const valkey = (version: number) => ({ magic: "VALKEY" as const, version });

function refusal(
  header: ReturnType<typeof redis | typeof valkey>,
  target: string,
): string | undefined {
  try {
    refuseUnloadable(header, "multipart", parseTargetServer(target));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

test.each([
  [redis(10), "redis-7.0"],
  [redis(11), "redis-7.2"],
  [redis(11), "redis-8.0"],
  [redis(12), "redis-7.4"],
  [redis(12), "redis-8.4"],
  [redis(13), "redis-8.6"],
  [redis(15), "redis-8.10"],
  [redis(15), "redis-9.0"],
  [redis(10), "valkey-7.2"],
  [redis(11), "valkey-8.1"],
  [redis(11), "valkey-9.0"],
  [valkey(80), "valkey-9.0"],
  [valkey(80), "valkey-9.1"],
  // Newer than all that is known here: it may.
  [redis(16), "redis-8.12"],
  [valkey(81), "valkey-9.2"],
])("%p is for %s", (header, target) => {
  expect(refusal(header, target)).toBeUndefined();
});

test.each([
  [redis(11), "redis-7.0", "Redis 7.2 and later and every Valkey can"],
  [redis(12), "redis-7.2", "Redis 7.4 and later can"],
  [redis(13), "redis-8.4", "Redis 8.6 and later can"],
  [redis(15), "redis-8.8", "Redis 8.10 and later can"],
  [redis(12), "valkey-8.1", "Redis 7.4 and later can"],
  [redis(12), "valkey-9.1", "Redis 7.4 and later can"],
  [redis(16), "redis-8.10", "only a Redis newer than 8.10 can"],
  [valkey(80), "valkey-8.1", "Valkey 9.0 and later can"],
  [valkey(80), "redis-8.10", "Valkey 9.0 and later can"],
  [valkey(81), "valkey-9.1", "only a Valkey newer than 9.1 can"],
])("%p is not for %s", (header, target, who) => {
  expect(refusal(header, target)?.split("; ")[0]).toEndWith(`: ${who}`);
});

test("a server from before 7.0 needs the layout single", () => {
  const old = parseTargetServer("redis-6.2");
  expect(() => refuseUnloadable(redis(9), "multipart", old)).toThrow(
    "restore with --layout single",
  );
  refuseUnloadable(redis(9), "single", old);
  const oldest = parseTargetServer("redis-3.2");
  expect(() => refuseUnloadable(redis(7), "single", oldest)).toThrow("Redis 4.0 and later can");
});

test.each([
  "",
  "redis",
  "redis-8",
  "valkey-9.1.2",
  "valkey-7.0",
  "Redis-8.0",
  "dragonfly-1.0",
  "redis-8.x",
])("%p names no server", (text) => {
  const error = errorOf(() => parseTargetServer(text));
  expect(error).toMatchObject({ code: "USAGE" });
  expect(String(error)).toContain("such as redis-8.0");
});

test("the server to start must be the one that is named", () => {
  const target = parseTargetServer("redis-8.0");
  refuseOther(target, { product: "Redis", major: 8, minor: 0 });
  for (const other of ["redis-8.2", "redis-7.0", "valkey-8.0"]) {
    expect(() => refuseOther(target, parseTargetServer(other))).toThrow(
      "but --for names Redis 8.0",
    );
  }
});

test("what to do: another generation, or a snapshot for it, where Valkey can write one", () => {
  const [older, newer] = [parseTargetServer("valkey-8.1"), parseTargetServer("redis-7.0")];
  const message = (target: TargetServer) =>
    errorOf(() => refuseUnloadable(valkey(80), "multipart", target, "; or another")).message;
  expect(message(older)).toBe(
    "Valkey 8.1 can't load the snapshot, which is an RDB of Valkey's own version 80: Valkey 9.0 and later can; or another; a new snapshot is one that it can read if the replica, or a backup, takes it with --rdb-for valkey-8.1",
  );
  // No Valkey writes one for this.
  expect(message(newer)).toEndWith("Valkey 9.0 and later can; or another");
  expect(refusal(redis(12), "valkey-8.1")).not.toContain("--rdb-for");
});

test("for a server that is started on it, it is the result that is unusable", () => {
  const started = { ...parseTargetServer("redis-7.0"), isStarted: true } as const;
  const error = errorOf(() => refuseUnloadable(redis(12), "multipart", started));
  expect(error).toMatchObject({ code: "RESTORE_UNUSABLE", retry: "never" });
  expect(error.message).toBe(
    "Redis 7.0 can't read the snapshot's format (REDIS0012): Redis 7.4 and later can; give a newer one with --server",
  );
});
