import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../support/run-program.ts";
import { fetched } from "../support/server-catalog.ts";
import type { TempDir } from "../support/temp.ts";

/** In a mount namespace of its own, enters a root as a user of it: root, user and group, then the command. */
const ENTER = `root=$1 user=$2; shift 2
mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" &&
umask 027 && exec chroot --userspec="$user" "$root" "$@"`;

/** A user of a root, by its numbers. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** A small Debian in a folder, into which packages can be installed, and whose programs can run. */
export class DebianRoot {
  readonly path: string;

  /** @param path of the folder to make. @throws Error that says how to get the packages, if they weren't fetched. */
  constructor(dir: TempDir, name: string) {
    this.path = dir.file(name);
    const { dir: from } = fetched("debian-root");
    cpSync(from, this.path, { recursive: true, verbatimSymlinks: true });
    chmodSync(this.path, 0o755);
    // As base-passwd's own script does.
    for (const file of ["passwd", "group"]) {
      copyFileSync(this.file(`usr/share/base-passwd/${file}.master`), this.file(`etc/${file}`));
    }
    // What a copy may have narrowed, and every user needs.
    chmodSync(this.file("tmp"), 0o1777);
    mkdirSync(this.file("run"), { recursive: true });
  }

  /** The path outside of what is at `path` inside. */
  file(path: string): string {
    return join(this.path, path);
  }

  text(path: string): string {
    return readFileSync(this.file(path), "utf8");
  }

  /** Runs dpkg(1) on it; returns what it printed. @throws Error if it fails. */
  async dpkg(...args: readonly string[]): Promise<string> {
    const PATH = `/usr/sbin:/sbin:${process.env["PATH"]}`;
    const { stdout, stderr, exitCode } = await runProgram(
      ["dpkg", `--root=${this.path}`, ...args],
      {
        timeoutMs: 120_000,
        env: { ...process.env, PATH, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
      },
    );
    if (exitCode !== 0) throw new Error(`dpkg ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** A user as its own passwd has it; undefined where there is none. */
  user(name: string): User | undefined {
    const line = this.text("etc/passwd")
      .split("\n")
      .find((one) => one.startsWith(`${name}:`));
    const [, , uid, gid] = line?.split(":") ?? [];
    return line === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
  }

  /** What to put in front of a command that is to run inside, with the umask of the unit. */
  entering({ uid, gid }: User): string[] {
    return ["unshare", "--mount", "sh", "-c", ENTER, "enter", this.path, `${uid}:${gid}`];
  }

  /** Removes a program, so that what needs it has to do without. */
  removeProgram(name: string): void {
    rmSync(this.file(`usr/bin/${name}`));
  }
}

/** Whether this user may install into a root and enter it; says so where not. */
export async function mayEnterRoots(): Promise<boolean> {
  const argv = ["unshare", "--mount", "sh", "-c", "mount --rbind /proc /proc && chroot / true"];
  const { exitCode } = await runProgram(argv, { timeoutMs: 20_000 }).catch(() => ({ exitCode: 1 }));
  const may = process.getuid?.() === 0 && exitCode === 0;
  if (!may) {
    console.warn(
      "only root, who may mount and change its root, can install the package: that is NOT tested here",
    );
  }
  return may;
}
