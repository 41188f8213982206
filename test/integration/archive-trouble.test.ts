import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { APPEND_DIR } from "../../src/store/restore/restore.ts";
import { ACCESS_KEY, FaultS3, SECRET_KEY } from "../support/fault-s3.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { Random } from "../support/fill.ts";
import { bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { seedOf, swept } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { certificates } from "../support/tls.ts";
import { until } from "../support/wait.ts";

const KIND = "valkey-9";
const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
const dir = tempDir("archive-trouble");
let primary: RealServer;
let places = 0;

beforeAll(async () => {
  primary = await startServer(KIND);
  await primary.cli("DEBUG", "POPULATE", "1000", "key", "200");
});
afterAll(async () => {
  await primary.stop();
  dir.remove();
});

interface Place {
  readonly url: string;
  readonly at: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const newData = (): string => dir.file(`data-${places++}`);

/** Follows, by default into a data directory of its own. */
function follow(
  place: Place,
  server = primary,
  more: readonly string[] = [],
  data = newData(),
): ReplicaProcess {
  const args = ["follow", server.url(), "--dir", data, "--port", "0"];
  const archived = ["--archive", place.url, ...place.at, "--archive-every", "200ms"];
  return startReplica([...args, ...archived, ...more], { env: place.env });
}

interface Listed {
  readonly id: string;
  readonly to_offset: number;
}

async function listed({ url, at, env }: Place): Promise<readonly Listed[]> {
  const { stdout } = await runReplica(["snapshots", url, "--json", ...at], { env });
  return stdout === "" ? [] : (JSON.parse(stdout) as { generations: Listed[] }).generations;
}

/** Waits until so many generations of an archive hold what a server has. */
async function holds(place: Place, server = primary, count = 1): Promise<void> {
  const end = await server.offset();
  const areThere = async () =>
    (await listed(place)).filter(({ to_offset }) => to_offset >= end).length >= count;
  await until(areThere, { what: `${count} generations up to offset ${end} in the archive` }).catch(
    async (error: unknown) => {
      const { stderr } = await runReplica(["snapshots", place.url, ...place.at], {
        env: place.env,
      });
      throw new Error(`${String(error)}\n${stderr}`, { cause: error });
    },
  );
}

async function digestOf({ url, at, env }: Place, ...options: string[]): Promise<string> {
  const target = dir.file(`target-${places++}`);
  const done = await runReplica(["restore", url, target, ...at, ...options], { env });
  expect([done.exitCode, done.stderr]).toEqual([0, expect.any(String)]);
  await using server = await bootCopy(KIND, join(target, APPEND_DIR));
  return await server.digest();
}

async function expectSound({ url, at, env }: Place): Promise<void> {
  const { exitCode, stdout } = await runReplica(["verify", url, ...at], { env });
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining("no damage")]);
}

/** Lines about the archive that aren't merely information. */
function told(replica: ReplicaProcess): string[] {
  return replica.stderr.split("\n").filter((line) => /\b(?:WRN|ERR|warn|error)\b/i.test(line));
}

const DENIED = { kind: "error", status: 403, code: "AccessDenied" } as const;

interface Trouble {
  readonly name: string;
  /** What is done to a bucket that is sound. @returns where the archive is then. */
  readonly make: (bucket: FaultS3, place: Place) => Place | void;
  /** What the writer is told; undefined where it has no trouble. */
  readonly writer: RegExp | undefined;
  /** What readers are told, and what they leave with. */
  readonly reader: readonly [RegExp, number] | undefined;
  /** The trouble is of the address: nothing that is done at the store ends it. */
  readonly stays?: boolean;
}

const TROUBLES: readonly Trouble[] = [
  {
    name: "a bucket that is missing",
    make: (_, place) => ({ ...place, url: "s3://missing/prefix" }),
    writer: /the bucket "missing" does not exist at .*: create it, or correct its name/,
    reader: [/the bucket "missing" does not exist/, 1],
    stays: true,
  },
  {
    name: "putting is forbidden",
    make: (bucket) => bucket.fail({ operation: "PUT", times: Infinity, effect: DENIED }),
    writer: /grant s3:PutObject to this access key/,
    reader: undefined,
  },
  {
    name: "listing is forbidden",
    make: (bucket) => bucket.fail({ operation: "LIST", times: Infinity, effect: DENIED }),
    // Only a start, and the retention once a day, list anything.
    writer: undefined,
    reader: [/grant s3:ListBucket to this access key/, 1],
  },
  {
    name: "reading is forbidden",
    make: (bucket) => bucket.fail({ operation: "GET", times: Infinity, effect: DENIED }),
    writer: /grant s3:GetObject and s3:ListBucket to this access key/,
    reader: [/grant s3:GetObject and s3:ListBucket to this access key/, 1],
  },
  {
    name: "a clock that is off",
    make: (bucket) => {
      bucket.clock = () => Date.now() + 20 * 60_000;
    },
    writer: /this machine's clock, which is (?:19|20) min behind the store's: set the clock/,
    reader: [/this machine's clock, which is (?:19|20) min behind the store's: set the clock/, 1],
  },
  {
    name: "another region, which the store names",
    make: (bucket) => {
      bucket.region = "eu-north-1";
    },
    writer: undefined,
    reader: undefined,
  },
  {
    name: "an archive of a newer format",
    make: (bucket) => {
      const bytes = Buffer.from('{"format": 2, "kind": "replica-archive"}');
      bucket.objects.set("prefix/archive.json", { bytes, atMs: Date.now() });
    },
    writer: /archive\.json.*newer/,
    reader: [/archive\.json.*newer/, 1],
    stays: true,
  },
];

/** All of them take a while. */
const SOME = swept(TROUBLES, 6, new Random(seedOf("ARCHIVE_TROUBLE_SEED")));

describe.each(SOME)("$name", ({ make, writer, reader, stays = false }) => {
  test("is one line for who follows, who goes on; and for who reads, with its exit code", async () => {
    const bucket = await FaultS3.start();
    try {
      const sound = {
        url: "s3://bucket/prefix",
        at: ["--archive-endpoint", bucket.endpoint],
        env,
      };
      {
        await using before = follow(sound);
        await before.waitForLine(/connected by/);
        await holds(sound);
      }
      const place = make(bucket, sound) ?? sound;
      // What fills an empty directory from the archive tells of its own troubles.
      const more = ["--ack", "durable", "--no-archive-bootstrap"];
      await using replica = follow(place, primary, more);
      if (writer !== undefined) await replica.waitForLine(writer);
      await primary.send("INCR", "counter");
      await primary.acknowledgedBy(1);
      if (writer === undefined && reader === undefined) await holds(place, primary, 1);
      const read = async (command: string) => {
        const target = command === "restore" ? [dir.file(`target-${places++}`)] : [];
        const args = [command, place.url, ...target, ...place.at];
        const { exitCode, stderr } = await runReplica(args, { env });
        const [pattern, code] = reader ?? [/^/, 0];
        expect([command, exitCode, stderr]).toEqual([
          command,
          code,
          expect.stringMatching(pattern),
        ]);
        if (code !== 0) expect(stderr.trim().split("\n")).toHaveLength(1);
        for (const path of target) expect(fs.existsSync(path)).toBe(code === 0);
        expect(stderr).not.toContain(SECRET_KEY);
      };
      await Promise.all(["snapshots", "verify", "restore"].map(read));
      expect(told(replica).length).toBe(writer === undefined ? 0 : 1);
      expect(replica.stderr).not.toContain(SECRET_KEY);
      if (stays) return;
      bucket.heal();
      bucket.clock = () => Date.now();
      await holds(place);
      await expectSound(place);
      expect((await replica.stop()).exitCode).toBe(0);
    } finally {
      await bucket.stop();
    }
  });
});

test("HTTP to a port that speaks TLS is one line that says so", async () => {
  const bucket = await FaultS3.start(certificates.server);
  try {
    const endpoint = bucket.endpoint.replace("https:", "http:");
    const place = { url: "s3://bucket/prefix", at: ["--archive-endpoint", endpoint], env };
    await using replica = follow(place);
    await replica.waitForLine(/https:\/\//);
    expect(told(replica)).toHaveLength(1);
    for (const command of ["snapshots", "verify"]) {
      const { exitCode, stderr } = await runReplica([command, place.url, ...place.at], { env });
      expect([exitCode, stderr]).toEqual([1, expect.stringContaining("https://")]);
    }
  } finally {
    await bucket.stop();
  }
});

test("credentials of a shared file that end amid uploads are read anew, and nothing is told", async () => {
  const bucket = await FaultS3.start();
  try {
    const file = dir.file("credentials");
    const write = (key: string, secret: string, token: string) => {
      const lines = [`aws_access_key_id=${key}`, `aws_secret_access_key=${secret}`];
      fs.writeFileSync(file, ["[default]", ...lines, `aws_session_token=${token}`, ""].join("\n"));
    };
    const first = { secret: SECRET_KEY, token: "first", ended: false };
    bucket.logins.set(ACCESS_KEY, first);
    bucket.logins.set("ASIASECOND", { secret: "the second secret", token: "second" });
    write(ACCESS_KEY, SECRET_KEY, "first");
    const shared = { AWS_SHARED_CREDENTIALS_FILE: file, AWS_EC2_METADATA_DISABLED: "true" };
    const at = ["--archive-endpoint", bucket.endpoint];
    const place = { url: "s3://bucket/prefix", at, env: shared };
    await using replica = follow(place);
    await replica.waitForLine(/connected by/);
    await holds(place);
    write("ASIASECOND", "the second secret", "second");
    first.ended = true;
    for (let n = 0; n < 5; n++) await primary.send("INCR", "counter");
    await holds(place);
    expect(told(replica)).toEqual([]);
    // Without new ones, it is told what to do, and goes on once there are some.
    bucket.logins.get("ASIASECOND")!.ended = true;
    await primary.send("INCR", "counter");
    await replica.waitForLine(/the session's credentials have ended or are wrong: fetch new ones/);
    bucket.logins.set("ASIATHIRD", { secret: "the third secret", token: "third" });
    write("ASIATHIRD", "the third secret", "third");
    await holds(place);
    expect(told(replica)).toHaveLength(1);
    expect(replica.stderr).not.toMatch(/the (?:second|third) secret/);
    await expectSound(place);
  } finally {
    await bucket.stop();
  }
});

/** An archive in a folder that nobody has used. */
function folder(): Place & { readonly path: string } {
  const path = dir.file(`archive-${places++}`);
  return { path, url: `file://${path}`, at: [], env: {} };
}

test("two replicas of one primary share a prefix: each has all of it, and one goes on where the other was killed", async () => {
  const place = folder();
  await using one = follow(place);
  await using other = follow(place);
  await Promise.all([one, other].map((replica) => replica.waitForLine(/connected by/)));
  for (let n = 0; n < 20; n++) await primary.send("INCR", "counter");
  await holds(place, primary, 2);
  await one.kill9();
  for (let n = 0; n < 20; n++) await primary.send("INCR", "counter");
  await holds(place, primary, 1);
  await expectSound(place);
  expect(await digestOf(place)).toBe(await primary.digest());
  expect([...told(one), ...told(other)]).toEqual([]);
});

test("two primaries share a prefix: each generation is restored as what its own primary had", async () => {
  const place = folder();
  await using another = await startServer(KIND);
  await another.cli("DEBUG", "POPULATE", "500", "other", "300");
  const [data, otherData] = [newData(), newData()];
  // Each has its own data before it knows the archive: an empty directory would be filled with what the other has there.
  for (const [path, server] of [
    [data, primary],
    [otherData, another],
  ] as const) {
    await using first = startReplica(["follow", server.url(), "--dir", path, "--port", "0"]);
    await first.waitForLine(/connected by/);
    expect((await first.stop()).exitCode).toBe(0);
  }
  await using one = follow(place, primary, [], data);
  await using other = follow(place, another, [], otherData);
  await Promise.all([one, other].map((replica) => replica.waitForLine(/connected by/)));
  for (const server of [primary, another]) {
    await server.send("INCR", "counter");
    const end = await server.offset();
    const generations = join(place.path, "generations");
    /** The generation that says that it came from this primary. */
    const own = () =>
      fs.readdirSync(generations).find((name) => {
        const document = fs.readFileSync(join(generations, name, "generation.json"), "utf8");
        return (JSON.parse(document) as { primary: string }).primary.endsWith(`:${server.port}`);
      });
    const isThere = async () =>
      (await listed(place)).some(({ id, to_offset }) => id === own() && to_offset >= end);
    await until(isThere, { what: "its generation" });
    expect(await digestOf(place, "--generation", own()!)).toBe(await server.digest());
  }
  await expectSound(place);
  expect([...told(one), ...told(other)]).toEqual([]);
});

test("a foreign file in every folder disturbs neither who writes nor who reads", async () => {
  const place = folder();
  {
    await using replica = follow(place);
    await replica.waitForLine(/connected by/);
    await primary.send("INCR", "counter");
    await holds(place);
    await replica.kill9();
  }
  const folders = [place.path];
  for (const entry of fs.readdirSync(place.path, { recursive: true, withFileTypes: true }))
    if (entry.isDirectory()) folders.push(join(entry.parentPath, entry.name));
  expect(folders.length).toBeGreaterThanOrEqual(5);
  const foreign = folders.map((path) => join(path, ".DS_Store"));
  for (const path of foreign) fs.writeFileSync(path, "foreign");
  fs.mkdirSync(join(place.path, "generations", "lost+found"));
  await using replica = follow(place);
  await replica.waitForLine(/connected by/);
  await primary.send("INCR", "counter");
  await holds(place);
  await expectSound(place);
  expect(await digestOf(place)).toBe(await primary.digest());
  for (const path of foreign) expect(fs.readFileSync(path, "utf8")).toBe("foreign");
});

describe("damage by somebody", () => {
  const place = folder();
  let files: string[] = [];

  beforeAll(async () => {
    await using replica = follow(place);
    await replica.waitForLine(/connected by/);
    const grow = async () => {
      for (let n = 0; n < 5; n++) await primary.send("INCR", "counter");
      await holds(place);
    };
    await grow();
    await grow();
    replica.signal("SIGUSR1");
    await replica.waitForLine(/replaces generation 1/);
    await grow();
    await until(() => fs.existsSync(place.path) && objects().some(isSealed), { what: "the seal" });
    expect((await replica.stop()).exitCode).toBe(0);
    files = objects();
  });

  const isSealed = (name: string) => name.endsWith("sealed.json");
  const objects = () =>
    fs
      .readdirSync(place.path, { recursive: true, encoding: "utf8" })
      .filter((name) => fs.statSync(join(place.path, name)).isFile())
      .toSorted();
  /** The first object with this in its name, of the first generation or the last. */
  const named = (part: string, which: "first" | "last" = "first") =>
    which === "first"
      ? files.find((name) => name.includes(part))!
      : files.findLast((name) => name.includes(part))!;

  const swap = (root: string, one: string, other: string) => {
    const [a, b] = [join(root, one), join(root, other)];
    const bytes = fs.readFileSync(a);
    fs.copyFileSync(b, a);
    fs.writeFileSync(b, bytes);
  };
  const DAMAGES: readonly [string, (root: string) => void][] = [
    ["a piece is deleted", (root) => fs.rmSync(join(root, named("/base/")))],
    ["a piece is truncated", (root) => fs.truncateSync(join(root, named("/base/")), 100)],
    [
      "a segment is changed",
      (root) => {
        const path = join(root, named("/log/"));
        const bytes = fs.readFileSync(path);
        bytes[bytes.length - 10]! ^= 1;
        fs.writeFileSync(path, bytes);
      },
    ],
    [
      "a segment amid the log is deleted",
      (root) => fs.rmSync(join(root, files.filter((name) => name.includes("/log/"))[1]!)),
    ],
    [
      "a segment is renamed",
      (root) => {
        const path = join(root, named("/log/"));
        fs.renameSync(path, path.replace(/-(\d{16})-/, "-0000000009999999-"));
      },
    ],
    [
      "pieces of two generations are swapped",
      (root) => swap(root, named("/base/"), named("/base/", "last")),
    ],
    [
      "base.json of two generations is swapped",
      (root) => swap(root, named("/base.json"), named("/base.json", "last")),
    ],
    [
      "generation.json is emptied",
      (root) => fs.truncateSync(join(root, named("/generation.json")), 0),
    ],
  ];

  test("is found by verify, with exit code 3, in one line that names the object", async () => {
    for (const [what, damage] of swept(DAMAGES, 6, new Random(places))) {
      const root = dir.file(`damaged-${places++}`);
      fs.cpSync(place.path, root, { recursive: true });
      damage(root);
      const { exitCode, stdout } = await runReplica(["verify", `file://${root}`]);
      expect([what, exitCode, stdout]).toEqual([
        what,
        3,
        expect.stringMatching(new RegExp(`damaged: file://${root}/generations/\\S+: `)),
      ]);
      const target = dir.file(`target-${places++}`);
      const [first] = await listed({ ...place, url: `file://${root}` });
      const args = ["restore", `file://${root}`, target, "--generation", first?.id ?? "none"];
      const restored = await runReplica(args);
      // Whatever is restored is whole: nothing of what is damaged is taken for what was written.
      if (restored.exitCode === 0) {
        await using server = await bootCopy(KIND, join(target, APPEND_DIR));
        expect(await server.send("PING")).toBe("PONG");
      } else {
        expect([what, restored.stderr.trim().split("\n").length]).toEqual([what, 1]);
        expect(fs.existsSync(target)).toBe(false);
      }
    }
  });
});
