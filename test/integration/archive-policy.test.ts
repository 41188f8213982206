import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { ACCESS_KEY, FaultS3, type S3Operation, SECRET_KEY } from "../support/fault-s3.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { type RealServer, startServer } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** What Amazon calls the permission for each request. */
const ACTIONS: Readonly<Record<S3Operation, string>> = {
  PUT: "s3:PutObject",
  BEGIN: "s3:PutObject",
  PART: "s3:PutObject",
  COMPLETE: "s3:PutObject",
  ABORT: "s3:AbortMultipartUpload",
  GET: "s3:GetObject",
  LIST: "s3:ListBucket",
  DELETE: "s3:DeleteObject",
};
/** What removes old generations, and only that, has a statement of its own. */
const RETENTION = "Retention";
const env = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
const dir = tempDir("archive-policy");
let primary: RealServer;
let bucket: FaultS3;
beforeAll(async () => {
  primary = await startServer("valkey-9");
  bucket = await FaultS3.start();
});
afterAll(async () => {
  await primary.stop();
  await bucket.stop();
  dir.remove();
});

interface Policy {
  readonly Statement: readonly {
    readonly Sid?: string;
    readonly Action: string | readonly string[];
  }[];
}

const document = await Bun.file(join(import.meta.dir, "../../docs/OPERATIONS.md")).text();

/** The actions that a policy of OPERATIONS.md allows, but for those of the retention. */
function allowed(name: string): string[] {
  const found = new RegExp(`<!-- policy: ${name} -->\\s+\`\`\`json\\n([\\s\\S]*?)\`\`\``).exec(
    document,
  );
  const { Statement } = JSON.parse(found![1]!) as Policy;
  const others = Statement.filter(({ Sid }) => Sid !== RETENTION);
  return others.flatMap(({ Action }) => Action).toSorted();
}

/** The actions that the bucket has seen since the last call. */
function used(): string[] {
  const seen = bucket.seen.splice(0).map(({ operation }) => ACTIONS[operation]);
  return [...new Set(seen)].toSorted();
}

test("the policies of OPERATIONS.md allow what archiving and restoring ask for, and nothing else", async () => {
  const archive = `s3://${bucket.bucket}/prefix`;
  const at = ["--archive-endpoint", bucket.endpoint];
  const args = [
    primary.url(),
    "--dir",
    dir.file("data"),
    "--port",
    "0",
    "--archive",
    archive,
    ...at,
  ];
  const written = () => [...bucket.objects.keys()].filter((key) => key.includes("/log/")).length;
  for (const run of [1, 2]) {
    await using replica = startReplica([...args, "--archive-every", "1s"], { env });
    await replica.waitForLine(/connected by/);
    await primary.send("SET", "run", String(run));
    const before = written();
    await until(() => written() > before, { what: "a segment" });
    // A renewal seals a generation, and begins another, which the next run goes on with.
    if (run === 1) replica.signal("SIGUSR1");
    const bases = () => [...bucket.objects.keys()].filter((key) => key.endsWith("base.json"));
    await until(() => bases().length === 2, { what: "a second snapshot" });
    await replica.kill9();
  }
  expect([...bucket.objects.keys()].some((key) => key.endsWith("sealed.json"))).toBeTrue();
  expect(used()).toEqual(allowed("writer"));
  for (const command of [
    ["snapshots", archive],
    ["verify", archive],
    ["restore", archive, dir.file("restored")],
  ]) {
    const { exitCode, stderr } = await runReplica([...command, ...at], { env });
    expect([command[0], exitCode, stderr]).toEqual([command[0], 0, expect.any(String)]);
  }
  expect(used()).toEqual(allowed("reader"));
  expect(document).toContain('"Action": "s3:DeleteObject"');
});
