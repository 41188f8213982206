import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json";
import { debianVersion, packagedUnit } from "../../release/debian.ts";
import { lockedPackages } from "../../release/locked.ts";
import { fetchRuntime } from "../../release/runtimes.ts";
import { TARGETS } from "../../release/targets.ts";
import { VERSION } from "../../src/base/version.ts";
import { environmentOf, parseUnit, startedBy, valuesOf, variablesIn } from "../deploy/unit-file.ts";
import { thrownBy } from "../support/error-of.ts";
import { NotifySocket } from "../support/notify-socket.ts";
import { freePort } from "../support/ports.ts";
import { runReplica, startReplica } from "../support/replica-process.ts";
import { runProgram } from "../support/run-program.ts";
import { bootCopyOfDir, startServer } from "../support/servers.ts";
import { IS_FULL } from "../support/sweep.ts";
import { tempDir } from "../support/temp.ts";
import { DebianRoot, mayEnterRoots } from "./debian-root.ts";
import { executableOf, filesInside, signedPages } from "./executables.ts";

const projectDir = join(import.meta.dir, "../..");
const scripts = join(projectDir, "release/debian");
const ARCHITECTURE = process.arch === "arm64" ? "arm64" : "amd64";
const RELEASE_TIMEOUT_MS = 1_200_000;
const TIMEOUT_MS = 300_000;
/** What the release is dated with here: 2026-01-01. */
const DATE = { seconds: 1_767_225_600, text: "2026-01-01T00:00:00.000Z" };

test("every target's runtime is a pinned package, and its name tells what Bun calls it", async () => {
  const locked = await lockedPackages();
  for (const { name, runtime: from } of TARGETS) {
    const pinned = packageJson.optionalDependencies as Record<string, string>;
    expect([from, locked.get(`node_modules/${from}`)?.version]).toEqual([from, pinned[from]]);
    expect(from).toBe(`@oven/bun-${name.replace("arm64", "aarch64")}`);
  }
});

test("a runtime with other bytes than package-lock.json names is refused, and removed", async () => {
  using dir = tempDir("runtimes");
  const cached = TARGETS.map(({ runtime }) =>
    dir.file("bun-replica/runtimes", `${runtime.replace("/", "-")}-${Bun.version}.tgz`),
  );
  for (const path of cached) await Bun.write(path, "something else");
  const child = await runProgram([process.execPath, "release/runtimes.ts"], {
    cwd: projectDir,
    env: { ...process.env, XDG_CACHE_HOME: dir.path },
  });
  expect(child.exitCode).toBe(1);
  expect(child.stderr).toContain("is not what package-lock.json names");
  expect(cached.filter((path) => existsSync(path))).toEqual([]);
  const unknown = await thrownBy(fetchRuntime("@oven/bun-nowhere"));
  expect(unknown).toThrow("package-lock.json has no @oven/bun-nowhere");
});

describe("what a Debian package holds", () => {
  test("the unit of deploy/, with the package's program and user in place of its own", async () => {
    const text = await Bun.file(join(projectDir, "deploy/replica.service")).text();
    const [own, packaged] = [parseUnit(text), parseUnit(packagedUnit(text))];
    const lines = (unit: typeof own) =>
      [...unit].flatMap(([section, all]) =>
        all.map(([name, value]) => `${section} ${name}=${value}`),
      );
    const [before, after] = [lines(own), lines(packaged)];
    expect(before.filter((line) => !after.includes(line))).toEqual([
      "Service ExecStart=/usr/local/bin/replica follow ${PRIMARY} --dir %S/replica",
      "Service DynamicUser=yes",
    ]);
    expect(after.filter((line) => !before.includes(line))).toEqual([
      "Service ExecStart=/usr/bin/replica follow ${PRIMARY} --dir %S/replica",
      "Service User=replica",
      "Service Group=replica",
    ]);
    expect(() => packagedUnit(text.replace("DynamicUser=yes", "User=other"))).toThrow(
      "DynamicUser",
    );
  });

  test("the proof's unit with the same user: one of its own would take the data directory away", async () => {
    const text = await Bun.file(join(projectDir, "deploy/replica-proof.service")).text();
    const packaged = packagedUnit(text, "# The proof.\n\n");
    expect(packaged).toStartWith("# The proof.\n\n[Unit]\n");
    const unit = parseUnit(packaged);
    expect(valuesOf(unit, "Service", "DynamicUser")).toEqual([]);
    expect(valuesOf(unit, "Service", "User")).toEqual(["replica"]);
    expect(valuesOf(unit, "Service", "Group")).toEqual(["replica"]);
    expect(valuesOf(unit, "Service", "ExecStart")[0]).toStartWith("/usr/bin/replica-proof ");
  });

  test("scripts that a shell understands, and a version that Debian sorts rightly", () => {
    const names = readdirSync(scripts).filter((name) => /^(?:pre|post)/.test(name));
    expect(names.toSorted()).toEqual(["postinst", "postrm", "prerm"]);
    for (const name of names) {
      expect(Bun.spawnSync(["sh", "-n", join(scripts, name)]).stderr.toString()).toBe("");
    }
    expect(debianVersion).toMatch(/^\d+\.\d+\.\d+(?:~[\w.]+)?$/);
  });
});

const mayEnter = IS_FULL && (await mayEnterRoots());

// Four programs are compiled, twice.
describe.skipIf(!IS_FULL)("npm run release", () => {
  const dir = tempDir("release");
  const release = dir.file("first");
  afterAll(() => dir.remove());

  /** Makes the release in a folder, as another user with other habits would. */
  async function make(into: string, umask: string, TZ: string): Promise<void> {
    const run = 'umask "$0" && exec npm run --silent release -- --out "$1"';
    const env = { ...process.env, TZ, SOURCE_DATE_EPOCH: String(DATE.seconds) };
    const made = await runProgram(["sh", "-c", run, umask, into], { cwd: projectDir, env });
    expect({ said: made.stderr, exitCode: made.exitCode }).toMatchObject({ exitCode: 0 });
  }

  beforeAll(() => make(release, "022", "UTC"), RELEASE_TIMEOUT_MS);

  const program = (name: string) => join(release, `replica-${name}`);
  const debian = join(release, `replica_${debianVersion}_${ARCHITECTURE}.deb`);

  test("makes programs, packages, what they consist of, and checksums of all", async () => {
    const files = [
      "LICENCES.txt",
      `bun-replica-${VERSION}.tgz`,
      "replica.cdx.json",
      ...TARGETS.map(({ name }) => `replica-${name}`),
      ...["amd64", "arm64"].map((one) => `replica_${debianVersion}_${one}.deb`),
    ];
    expect(readdirSync(release).toSorted()).toEqual([...files, "SHA256SUMS"].toSorted());
    const sums = readFileSync(join(release, "SHA256SUMS"), "utf8").trimEnd().split("\n");
    expect(sums.map((line) => line.slice(66)).toSorted()).toEqual(files.toSorted());
    const checked = await runProgram(["sha256sum", "--check", "SHA256SUMS"], { cwd: release });
    expect(checked).toMatchObject({ stderr: "", exitCode: 0 });
  });

  test(
    "makes the same bytes again, whatever the umask and the time zone",
    async () => {
      await make(dir.file("second"), "077", "Asia/Tokyo");
      const sums = (folder: string) => readFileSync(dir.file(folder, "SHA256SUMS"), "utf8");
      expect(sums("second")).toBe(sums("first"));
    },
    RELEASE_TIMEOUT_MS,
  );

  test("compiles for each machine what it says, with the same files inside", () => {
    const found = TARGETS.map(({ name }) => {
      const bytes = readFileSync(program(name));
      const { format, machine, loader } = executableOf(bytes);
      // Some code differs by system, and a file is named by a hash of its code.
      const inside = filesInside(bytes)
        .map((file) => file.replace(/-\w{8}\.js$/, ".js"))
        .toSorted();
      expect(inside).toContain("piece-worker.js");
      expect(inside.length).toBeGreaterThan(100);
      expect(lstatSync(program(name)).mode & 0o777).toBe(0o755);
      return { is: [name, format, machine, loader], inside };
    });
    expect(found.map(({ is }) => is)).toEqual([
      ["linux-x64", "elf", "x64", "/lib64/ld-linux-x86-64.so.2"],
      ["linux-arm64", "elf", "arm64", "/lib/ld-linux-aarch64.so.1"],
      ["linux-x64-musl", "elf", "x64", "/lib/ld-musl-x86_64.so.1"],
      ["darwin-arm64", "mach-o", "arm64", "/usr/lib/dyld"],
    ]);
    for (const { inside } of found) expect(inside).toEqual(found[0]!.inside);
  });

  test("signs the program for macOS, so that it may start: every page has the checksum that it should", () => {
    const bytes = readFileSync(program("darwin-arm64"));
    const { pages, wrong } = signedPages(bytes);
    expect([pages > 20_000, wrong]).toEqual([true, 0]);
    bytes[bytes.length >> 1]! ^= 1;
    expect(signedPages(bytes).wrong).toBe(1);
  });

  test("makes a program that runs on this machine", async () => {
    const at = program(ARCHITECTURE === "arm64" ? "linux-arm64" : "linux-x64");
    const { stdout, exitCode } = await runReplica(["--version"], { binary: { at } });
    expect([stdout, exitCode]).toEqual([`replica ${VERSION}\n`, 0]);
  });

  test("lists every package of the program, and none of development, with checksum and licence", async () => {
    const sbom = JSON.parse(readFileSync(join(release, "replica.cdx.json"), "utf8"));
    expect(sbom).toMatchObject({
      bomFormat: "CycloneDX",
      specVersion: "1.5",
      serialNumber: expect.stringMatching(/^urn:uuid:[\da-f-]{36}$/),
      metadata: {
        timestamp: DATE.text,
        component: { name: "bun-replica", version: VERSION, type: "application" },
      },
    });
    const locked = [...(await lockedPackages())]
      .filter(([, { dev }]) => dev !== true)
      .map(([path, { version, integrity }]) => [
        `${path.split("node_modules/").at(-1)!}@${version}`,
        Buffer.from(integrity.replace("sha512-", ""), "base64").toString("hex"),
        true,
      ]);
    const listed = sbom.components.map(
      (one: { "bom-ref": string; hashes: { content: string }[]; licenses?: unknown[] }) => [
        one["bom-ref"],
        one.hashes[0]!.content,
        one.licenses !== undefined,
      ],
    );
    expect(listed.toSorted()).toEqual(locked.toSorted());
    const refs = sbom.dependencies.map(({ ref }: { ref: string }) => ref);
    expect(refs.toSorted()).toEqual(
      [`bun-replica@${VERSION}`, ...locked.map(([name]) => String(name))].toSorted(),
    );
    const texts = readFileSync(join(release, "LICENCES.txt"), "utf8");
    for (const name of Object.keys(packageJson.dependencies)) expect(texts).toContain(`  ${name} `);
    expect(texts).toContain("Permission is hereby granted, free of charge");
  });

  describe.skipIf(!mayEnter)("the Debian package", () => {
    const unitPath = "usr/lib/systemd/system/replica.service";
    /** What systemd would do before it runs the unit's command: the folder of its state. */
    function prepare(root: DebianRoot): { command: string[]; env: Record<string, string> } {
      const unit = parseUnit(root.text(unitPath));
      const one = (name: string) => valuesOf(unit, "Service", name)[0]!;
      const owner = root.user(one("User"))!;
      const state = join("var/lib", one("StateDirectory"));
      mkdirSync(root.file(state), { recursive: true });
      chownSync(root.file(state), owner.uid, owner.gid);
      chmodSync(root.file(state), Number.parseInt(one("StateDirectoryMode"), 8));
      const file = one("EnvironmentFile").replace(/^-\//, "");
      const env = { ...environmentOf(unit), ...variablesIn(root.text(file)) };
      return { command: startedBy(unit, { S: "/var/lib" }, env), env };
    }

    test(
      "is installed into a clean Debian, follows by the line of its unit, restores, and is purged but for the data",
      async () => {
        const root = new DebianRoot(dir, "debian");
        const hint =
          "name the primary in /etc/default/replica, then: systemctl enable --now replica";
        expect(await root.dpkg("--install", debian)).toContain(hint);
        const user = root.user("replica")!;
        expect(user.uid).toBeWithin(1, 1000);
        expect(await root.dpkg("--verify", "replica")).toBe("");

        await using primary = await startServer("redis-7.0");
        const settings = root.file("etc/default/replica");
        const lines = [
          `PRIMARY=${primary.url()}`,
          `REPLICA_PORT=${freePort()}`,
          `REPLICA_HTTP=127.0.0.1:${freePort()}`,
        ];
        writeFileSync(settings, `${lines.join("\n")}\n`);
        const { command, env } = prepare(root);
        const [at = "", ...args] = command;
        expect(at).toBe("/usr/bin/replica");
        const within = { under: root.entering(user), binary: { at }, cwd: "/" };
        for (const [path, printed] of [
          ["usr/share/bash-completion/completions/replica", ["completion", "bash"]],
          ["usr/share/zsh/vendor-completions/_replica", ["completion", "zsh"]],
          ["usr/share/fish/vendor_completions.d/replica.fish", ["completion", "fish"]],
        ] as const) {
          const { stdout } = await runReplica(printed, within);
          expect([path, root.text(path)]).toEqual([path, stdout]);
        }
        const manual = Bun.gunzipSync(readFileSync(root.file("usr/share/man/man1/replica.1.gz")));
        expect(Buffer.from(manual).toString()).toBe((await runReplica(["man"], within)).stdout);

        await primary.send("SET", "before", "it followed");
        {
          using manager = new NotifySocket(root.file("run/notify"));
          chmodSync(root.file("run/notify"), 0o777);
          await using replica = startReplica(args, {
            ...within,
            env: { ...env, NOTIFY_SOCKET: "/run/notify" },
          });
          await manager.waitFor(/^READY=1$/);
          await replica.waitForLine(/connected by full resync/);
          await primary.send("SET", "after", "it followed");
          await primary.acknowledgedBy(1);
          expect(await replica.stop()).toEqual({ exitCode: 0, signal: null });
        }
        const restore = ["restore", "/var/lib/replica", "/tmp/then"];
        expect(await runReplica(restore, within)).toMatchObject({ exitCode: 0 });
        const state = lstatSync(root.file("var/lib/replica/replica.db"));
        expect([state.uid, state.gid, state.mode & 0o777]).toEqual([user.uid, user.gid, 0o640]);
        {
          const args = ["--appendonly", "yes"];
          await using stock = await bootCopyOfDir("redis-7.0", root.file("tmp/then"), { args });
          expect(await stock.digest()).toBe(await primary.digest());
        }

        // An upgrade keeps the settings, and says nothing of a first start.
        expect(await root.dpkg("--install", debian)).not.toContain(hint);
        expect(readFileSync(settings, "utf8")).toContain(primary.url());
        await root.dpkg("--remove", "replica");
        expect([existsSync(root.file("usr/bin/replica")), existsSync(settings)]).toEqual([
          false,
          true,
        ]);
        const said = await root.dpkg("--purge", "replica");
        expect(said).toContain("/var/lib/replica stays, with all data that is kept there");
        expect(existsSync(settings)).toBe(false);
        expect(root.user("replica")).toEqual(user);
        const left = readdirSync(root.path, { recursive: true, encoding: "utf8" }).filter(
          (path) => /replica/.test(path) && !path.startsWith("var/lib/replica"),
        );
        expect(left).toEqual([]);
        const kept = await runReplica(["verify", root.file("var/lib/replica")]);
        expect(kept).toMatchObject({ exitCode: 0 });
      },
      TIMEOUT_MS,
    );

    test(
      "makes its user without systemd, too, and takes it away where it has no data",
      async () => {
        const root = new DebianRoot(dir, "without-systemd");
        root.removeProgram("systemd-sysusers");
        await root.dpkg("--install", debian);
        const line = root
          .text("etc/passwd")
          .split("\n")
          .find((one) => one.startsWith("replica:"));
        expect(line).toMatch(/:\/var\/lib\/replica:\/usr\/sbin\/nologin$/);
        await root.dpkg("--purge", "replica");
        expect(root.user("replica")).toBeUndefined();
      },
      TIMEOUT_MS,
    );
  });
});
