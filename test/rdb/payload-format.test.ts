import { describe, expect, test } from "bun:test";
import { formatOfType, payloadVersion } from "../../src/rdb/payload-format.ts";
import type { RdbFormat, Release } from "../../src/rdb/releases.ts";

const release = (text: string): Release => {
  const [product, version = ""] = text.split(" ");
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return { product: product === "Valkey" ? "Valkey" : "Redis", major, minor };
};
const REDIS_12: RdbFormat = { magic: "REDIS", version: 12 };
const VALKEY_80: RdbFormat = { magic: "VALKEY", version: 80 };

describe("the version that a payload names", () => {
  test.each([
    // [type, file, server, version]
    ["the file's own, where the server loads that", 0, REDIS_12, "Redis 8.0", 12],
    ["never one from before DUMP", 0, { magic: "REDIS", version: 3 }, "Redis 7.0", 6],
    ["the type's, for an older server", 0, REDIS_12, "Redis 7.0", 6],
    ["the type's, for an older server", 18, REDIS_12, "Redis 7.0", 10],
    ["the type's, for another product", 20, REDIS_12, "Valkey 8.1", 11],
    ["the type's, from a magic of its own", 20, VALKEY_80, "Redis 7.2", 11],
    ["the type's, from a magic of its own", 5, VALKEY_80, "Redis 4.0", 8],
    ["none for a set's listpack before Redis 7.2", 20, VALKEY_80, "Redis 7.0", undefined],
    ["none for a stream before Redis 5.0", 15, REDIS_12, "Redis 4.0", undefined],
    ["none for Redis's hash fields with an expiry", 24, REDIS_12, "Valkey 9.0", undefined],
    ["none for Redis's hash fields with an expiry", 25, REDIS_12, "Redis 7.2", undefined],
    ["none for Valkey's hash fields with an expiry", 22, VALKEY_80, "Redis 8.0", undefined],
    ["none for Valkey's hash fields with an expiry", 22, VALKEY_80, "Valkey 8.1", undefined],
    ["the file's own, for Valkey's hash fields", 22, VALKEY_80, "Valkey 9.0", 80],
    ["none for a type that isn't known", 99, REDIS_12, "Redis 7.2", undefined],
  ] as const)("is %s", (_, type, file, server, version) => {
    expect(payloadVersion(type, file, release(server))).toBe(version!);
  });

  test("belongs to the file where the type isn't known", () => {
    expect(formatOfType(99, REDIS_12)).toEqual(REDIS_12);
  });
});
