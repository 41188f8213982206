import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import { realDisk } from "../../src/store/disk/disk.ts";
import { CURRENT, fileNames, MANIFEST } from "../../src/store/generation/layout.ts";
import { follow } from "../support/following.ts";
import { generationFiles } from "../support/generation-files.ts";
import { HELD_COPIES, type HeldCopy } from "../support/held-copy.ts";
import { availableServers, bootCopy, type RealServer, startServer } from "../support/servers.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";

/** Longer than a pipe, so that a tool is held amid a file. */
const ENTRIES_AT_ONCE = 150;
const VALUE = "v".repeat(1_000);
/** What each server says of a manifest that names a file which isn't there. */
const REFUSAL = /Unable to obtain the AOF file \S+ length\. stat: No such file or directory/;

const kinds = availableServers();

/** A replica of a real primary, and how to give it a new generation. */
class Stage implements AsyncDisposable {
  entries = 0;
  readonly #dir: TempDir = tempDir("copied");
  readonly #primary: RealServer;
  readonly #replica: ReturnType<typeof follow>;

  private constructor(primary: RealServer) {
    this.#primary = primary;
    this.#replica = follow(primary.url(), realDisk, this.#dir, { keep: "100" });
  }

  static async start(): Promise<Stage> {
    const args = ["--rdbcompression", "no", "--repl-ping-replica-period", "3600"];
    const stage = new Stage(await startServer("redis-7.0", { args }));
    await stage.#replica.connected();
    return stage;
  }

  get data(): string {
    return this.#replica.path;
  }

  get current(): number {
    return this.#replica.replica.directory.current!.id;
  }

  file(name: string): string {
    return this.#dir.file(name);
  }

  /** Adds to a list, which tells a command that is missing and one that came twice; waits until the files hold it. */
  async write(): Promise<void> {
    const pushes = Array.from({ length: ENTRIES_AT_ONCE }, (_, n) => [
      "RPUSH",
      "list",
      `${this.entries + n} ${VALUE}`,
    ]);
    await this.#primary.sendAll(pushes);
    this.entries += ENTRIES_AT_ONCE;
    await this.#primary.acknowledgedBy(1);
  }

  /** Lets a new generation become current, as BGSAVE does. */
  async renew(): Promise<void> {
    const { replica } = this.#replica;
    const before = this.current;
    await until(() => replica.renewal.state.at === "none", { what: "the renewal before to end" });
    replica.renewal.begin("the test");
    await until(() => this.current > before, { what: "a new generation" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#replica[Symbol.asyncDispose]();
    await this.#primary.stop();
    this.#dir.remove();
  }
}

/** Boots a real server on a copy; returns how long its list is, or "refused" where it says that a file is missing. */
async function boot(kind: (typeof kinds)[number], folder: string): Promise<number | "refused"> {
  try {
    await using server = await bootCopy(kind, folder);
    return Number(await server.send("LLEN", "list"));
  } catch (error) {
    expect(String(error)).toMatch(REFUSAL);
    return "refused";
  }
}

let stage: Stage;
beforeAll(async () => {
  stage = await Stage.start();
  // Each base holds what was written before, each log what was written since.
  for (let n = 0; n < 3; n++) {
    await stage.write();
    await stage.renew();
  }
});
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
});

/** Copies `source` while another generation becomes current at the n-th file, and boots a server on the copy. */
async function copyHeldAt(n: number, { copy, name }: HeldCopy, source: string) {
  await stage.write();
  const target = stage.file(`${name} ${stage.current}`);
  const before = stage.current;
  let file = 0;
  const exitCode = await copy(source, target, async () => {
    if (file++ === n) await stage.renew();
  });
  const entries = await boot(kinds[n % kinds.length]!, target);
  return { n, wasHeld: stage.current > before, exitCode, entries };
}

describe.each(HELD_COPIES)("held at each file by $name, while another becomes current", (tool) => {
  test("a copy of current is a whole generation, or a server refuses it", async () => {
    for (let n = 0; ; n++) {
      const copied = await copyHeldAt(n, tool, join(stage.data, CURRENT));
      const isRefused = copied.wasHeld && copied.entries === "refused";
      expect(copied).toMatchObject(isRefused ? { n } : { n, exitCode: 0, entries: stage.entries });
      if (copied.wasHeld) continue;
      expect(n).toBeGreaterThanOrEqual(2);
      break;
    }
  });
});

// As the documents tell to do it.
test("a copy by cp of the folder that current points at is a whole generation", async () => {
  for (let n = 0; ; n++) {
    const copied = await copyHeldAt(n, HELD_COPIES[0]!, fs.realpathSync(join(stage.data, CURRENT)));
    expect(copied).toMatchObject({ n, exitCode: 0, entries: stage.entries });
    if (copied.wasHeld) continue;
    expect(n).toBeGreaterThanOrEqual(2);
    break;
  }
});

describe.each(kinds)("files of two generations: %s", (kind) => {
  /** Lays the files that `names` picks from both generations, with the manifest of one. */
  function mixture(manifestOf: number, names: readonly string[]): TempDir {
    const dir = tempDir("mixture");
    for (const id of [2, 3]) {
      const { base, log, manifest } = generationFiles(stage.data, id);
      for (const path of [base, log]) {
        if (names.includes(basename(path))) fs.copyFileSync(path, dir.file(basename(path)));
      }
      if (id === manifestOf) fs.copyFileSync(manifest, dir.file(MANIFEST));
    }
    return dir;
  }
  const [two, three] = [fileNames(2), fileNames(3)];

  test.each([
    [2, [two.base, three.log]],
    [2, [three.base, two.log]],
    [2, [three.base, three.log]],
    [2, [two.base, three.base, three.log]],
    [2, [two.log, three.base, three.log]],
    [2, []],
    [3, [two.base, three.log]],
    [3, [three.base, two.log]],
    [3, [two.base, two.log]],
    [3, [two.base, two.log, three.base]],
    [3, [two.base, two.log, three.log]],
    [3, []],
  ])("refuses the manifest of %i with %p", async (manifestOf, names) => {
    using dir = mixture(manifestOf, names);
    expect(await boot(kind, dir.path)).toBe("refused");
  });

  test("loads one generation whole, whatever lies beside it, and goes on with its numbers", async () => {
    using dir = mixture(2, [two.base, two.log, three.base, three.log]);
    await using server = await bootCopy(kind, dir.path);
    expect(await server.send("LLEN", "list")).toBe(2 * ENTRIES_AT_ONCE);
    await server.send("BGREWRITEAOF");
    const folder = join(server.dir, "generation");
    const names = () =>
      fs.readFileSync(join(folder, MANIFEST), "utf8").match(/appendonly\.aof\S+/g);
    await until(() => names()?.join(" ") === `${three.base} ${three.log}`, { what: "the rewrite" });
    await server.send("RPUSH", "list", "one more");
    await server.restart();
    expect(await server.send("LLEN", "list")).toBe(2 * ENTRIES_AT_ONCE + 1);
  });

  // Why the names bear the number: of three batches, the second is gone.
  test("loads a mixture under the same names, without a word", async () => {
    using dir = tempDir("mixture");
    const one = fileNames(1);
    fs.copyFileSync(generationFiles(stage.data, 2).base, dir.file(one.base));
    fs.copyFileSync(generationFiles(stage.data, 3).log, dir.file(one.log));
    fs.writeFileSync(dir.file(MANIFEST), one.manifestText);
    expect(await boot(kind, dir.path)).toBe(2 * ENTRIES_AT_ONCE);
  });
});
