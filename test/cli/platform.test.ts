import { resetSync } from "@logtape/logtape";
import { afterEach, expect, test } from "bun:test";
import { runCommandLine } from "../../src/cli/run.ts";
import { ReplicaError } from "../../src/base/errors.ts";
import { tempDir } from "../support/temp.ts";
import { Screen } from "./commands/screen.ts";

afterEach(resetSync);

/** What a command line writes to standard error on that operating system, where it is stopped at once. */
async function saidOn(platform: string, ...argv: string[]): Promise<string[]> {
  const [stdout, stderr] = [new Screen(), new Screen()];
  const stopped = new ReplicaError("STOPPED", { message: "stopped", retry: "never" });
  await runCommandLine(argv, {
    env: {},
    signal: AbortSignal.abort(stopped),
    stdout: stdout.output,
    stderr: stderr.output,
    platform,
    onDebug: () => {},
    onHangup: () => {},
  }).catch(() => undefined);
  return stderr.text.split("\n").filter((line) => line.includes("Linux"));
}

test("what keeps data says at its start, in one line, what it lacks outside Linux", async () => {
  using dir = tempDir("platform");
  const follow = ["follow", "--dir", dir.file("data"), "--port", "0"];
  const backup = ["backup", "redis://127.0.0.1:1", dir.file("dump.rdb")];
  for (const argv of [follow, backup]) {
    expect(await saidOn("darwin", ...argv)).toEqual([
      expect.stringMatching(/warn {2}this is darwin, and replica is tested on Linux alone: here /),
    ]);
    expect(await saidOn("linux", ...argv)).toEqual([]);
  }
  expect(await saidOn("darwin", "snapshots", dir.path)).toEqual([]);
});
