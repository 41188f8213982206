import { describe, expect, test } from "bun:test";
import {
  type Credentials,
  CurrentCredentials,
  environmentCredentials,
} from "../../../src/archive/store/credentials.ts";
import { sdkCredentials } from "../../../src/archive/store/sdk-credentials.ts";
import { rejectionOf, usageErrorOf } from "../../support/error-of.ts";
import { StoreClock } from "../../support/store-clock.ts";
import { tempDir } from "../../support/temp.ts";

describe("the environment's credentials", () => {
  test("are key, secret and token", async () => {
    const environment = {
      AWS_ACCESS_KEY_ID: "a",
      AWS_SECRET_ACCESS_KEY: "b ",
      AWS_SESSION_TOKEN: "c",
    };
    expect(await environmentCredentials(environment)!()).toEqual({
      accessKeyId: "a",
      secretAccessKey: "b",
      sessionToken: "c",
    });
  });

  test("are none without a key, and an error with half of one", () => {
    expect(environmentCredentials({ AWS_SESSION_TOKEN: "c" })).toBeUndefined();
    usageErrorOf(() => environmentCredentials({ AWS_ACCESS_KEY_ID: "a" }));
    usageErrorOf(() =>
      environmentCredentials({ AWS_SECRET_ACCESS_KEY: "b", AWS_ACCESS_KEY_ID: "" }),
    );
  });
});

describe("current credentials", () => {
  const MINUTE_MS = 60_000;

  /** A source that counts, of credentials that last so long. */
  function sourceOf(clock: StoreClock, lastMs: number | undefined) {
    const source = {
      fetched: 0,
      fails: false,
      async get(): Promise<Credentials> {
        if (source.fails) throw new Error("the source is away");
        source.fetched++;
        const expiresAtMs = lastMs === undefined ? {} : { expiresAtMs: clock.now() + lastMs };
        return { accessKeyId: `key ${source.fetched}`, secretAccessKey: "s", ...expiresAtMs };
      },
    };
    return source;
  }

  test("are fetched once for all who ask", async () => {
    const clock = new StoreClock();
    const source = sourceOf(clock, undefined);
    const current = new CurrentCredentials(source.get, clock);
    await Promise.all([current.get(), current.get()]);
    await current.get();
    expect(source.fetched).toBe(1);
  });

  test("are fetched anew before they end, and kept while that fails", async () => {
    const clock = new StoreClock();
    const source = sourceOf(clock, 60 * MINUTE_MS);
    const current = new CurrentCredentials(source.get, clock);
    await current.get();
    clock.skip(54 * MINUTE_MS);
    expect((await current.get()).accessKeyId).toBe("key 1");
    source.fails = true;
    clock.skip(2 * MINUTE_MS);
    expect((await current.get()).accessKeyId).toBe("key 1");
    source.fails = false;
    clock.skip(MINUTE_MS);
    expect((await current.get()).accessKeyId).toBe("key 2");
    source.fails = true;
    clock.skip(61 * MINUTE_MS);
    const error = await rejectionOf(() => current.get());
    expect(error).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
    expect(error.message).toContain("AWS_ACCESS_KEY_ID");
    expect(error.message).toContain("the source is away");
  });

  test("that last for minutes are used for half of them", async () => {
    const clock = new StoreClock();
    const source = sourceOf(clock, 4 * MINUTE_MS);
    const current = new CurrentCredentials(source.get, clock);
    await current.get();
    clock.skip(MINUTE_MS);
    await current.get();
    expect(source.fetched).toBe(1);
    clock.skip(MINUTE_MS + 1);
    await current.get();
    expect(source.fetched).toBe(2);
  });

  test("are given up where their source hangs", async () => {
    const clock = new StoreClock();
    const current = new CurrentCredentials(() => new Promise(() => undefined), clock);
    const failed = rejectionOf(() => current.get());
    clock.skip(MINUTE_MS);
    expect((await failed).message).toContain("did not answer");
  });
});

test("the SDK's chain reads a profile as it is now, and says so where there is nothing", async () => {
  using dir = tempDir("profile");
  const names = [
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_EC2_METADATA_DISABLED",
  ] as const;
  const before = names.map((name) => [name, process.env[name]] as const);
  try {
    process.env["AWS_SHARED_CREDENTIALS_FILE"] = dir.file("credentials");
    process.env["AWS_CONFIG_FILE"] = dir.file("config");
    process.env["AWS_EC2_METADATA_DISABLED"] = "true";
    process.env["AWS_PROFILE"] = "archive";
    const none = new CurrentCredentials(sdkCredentials(), new StoreClock());
    expect(await rejectionOf(() => none.get())).toMatchObject({ code: "ARCHIVE_FORBIDDEN" });
    const source = sdkCredentials();
    for (const key of ["first", "second"]) {
      await Bun.write(
        dir.file("credentials"),
        `[archive]\naws_access_key_id = ${key}\naws_secret_access_key = secret\n`,
      );
      expect(await source()).toEqual({ accessKeyId: key, secretAccessKey: "secret" });
    }
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});
