import * as fs from "node:fs";
import { basename, join } from "node:path";
import { endWithProcess, endingWithParent } from "./children.ts";
import { type TempDir, tempDir } from "./temp.ts";
import { until } from "./wait.ts";

/** A way to copy a folder, held at each file. */
export interface HeldCopy {
  readonly name: string;
  /**
   * Copies what `source` holds into the new folder `target`.
   * @param atFile is awaited each time the tool has come to another file, before it may go on.
   * @returns the tool's exit code.
   */
  copy(source: string, target: string, atFile: () => Promise<void>): Promise<number>;
}

/** `cp -rL`, `tar -h`, and `rsync -rL`; where that is not installed, what it does, file by file. */
export const HELD_COPIES: readonly HeldCopy[] = [
  { name: "cp", copy: copyByCp },
  { name: "tar", copy: copyByTar },
  Bun.which("rsync") === null
    ? { name: "each file by its name (rsync is not installed)", copy: copyByName }
    : { name: "rsync", copy: copyByRsync },
];

function spawn(argv: readonly string[], env: Record<string, string> = {}): Bun.Subprocess {
  const child = Bun.spawn(endingWithParent([...argv]), {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
    env: { ...process.env, ...env },
  });
  endWithProcess(child);
  return child;
}

function makeFifo(path: string): void {
  const { success, stderr } = Bun.spawnSync(["mkfifo", path]);
  if (!success) throw new Error(String(stderr));
}

/** The files of generations that a process has open. */
function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  const names: string[] = [];
  try {
    for (const fd of fs.readdirSync(folder)) {
      const path = linkAt(join(folder, fd));
      if (/\/generations\/\d{10}\/[^/]+$/.test(path)) names.push(path);
    }
  } catch {
    // It has ended.
  }
  return names;
}

function linkAt(path: string): string {
  try {
    return fs.readlinkSync(path);
  } catch {
    return "";
  }
}

/** Each copy is a pipe that exists already: cp opens the file, then waits until somebody reads the pipe. */
async function copyByCp(
  source: string,
  target: string,
  atFile: () => Promise<void>,
): Promise<number> {
  using dir = tempDir("held-cp");
  const into = dir.file("to", basename(source));
  fs.mkdirSync(into, { recursive: true });
  fs.mkdirSync(target);
  const left = new Set(fs.readdirSync(source));
  for (const name of left) makeFifo(join(into, name));
  const child = spawn(["cp", "-rL", source, dir.file("to")]);
  for (;;) {
    const open = () => openFiles(child.pid).find((path) => left.has(basename(path)));
    const at = await until(() => (child.exitCode === null ? open() : { hasEnded: true as const }), {
      what: "cp to open a file, or to end",
    });
    if (typeof at !== "string") break;
    await atFile();
    const name = basename(at);
    left.delete(name);
    fs.writeFileSync(join(target, name), await fs.promises.readFile(join(into, name)));
  }
  // Those that it found no pipe for.
  for (const entry of fs.readdirSync(into, { withFileTypes: true })) {
    if (entry.isFile()) fs.copyFileSync(join(into, entry.name), join(target, entry.name));
  }
  return await child.exited;
}

const TAR_BLOCK_BYTES = 512;

/** The archive goes into a pipe, which is not read on while tar is held: it is at most a pipe's length ahead. */
async function copyByTar(
  source: string,
  target: string,
  atFile: () => Promise<void>,
): Promise<number> {
  using dir = tempDir("held-tar");
  const fifo = dir.file("fifo");
  makeFifo(fifo);
  const [parent, name] = [join(source, ".."), basename(source)];
  const child = spawn(["sh", "-c", 'exec tar -chC "$0" "$1" > "$2"', parent, name, fifo]);
  const pieces: Buffer[] = [];
  await using pipe = await fs.promises.open(fifo);
  let nextHeader = 0;
  for (let at = 0; ;) {
    const { buffer, bytesRead } = await pipe.read(Buffer.alloc(TAR_BLOCK_BYTES));
    if (bytesRead === 0) break;
    pieces.push(buffer.subarray(0, bytesRead));
    at += bytesRead;
    if (at < nextHeader + TAR_BLOCK_BYTES) continue;
    const header = Buffer.concat(pieces).subarray(nextHeader, nextHeader + TAR_BLOCK_BYTES);
    if (header[0] === 0) {
      nextHeader = Infinity;
      continue;
    }
    const bytes = Number.parseInt(header.toString("latin1", 124, 135), 8);
    nextHeader += TAR_BLOCK_BYTES * (1 + Math.ceil(bytes / TAR_BLOCK_BYTES));
    if (header.toString("latin1", 156, 157) === "0") await atFile();
  }
  const exitCode = await child.exited;
  fs.writeFileSync(dir.file("archive"), Buffer.concat(pieces));
  fs.mkdirSync(dir.file("out"));
  Bun.spawnSync(["tar", "-xf", dir.file("archive"), "-C", dir.file("out")]);
  fs.cpSync(dir.file("out", name), target, { recursive: true });
  return exitCode;
}

/** The sender's bytes pass through here, and don't while it is held: it is at most a pipe's length ahead. */
async function copyByRsync(
  source: string,
  target: string,
  atFile: () => Promise<void>,
): Promise<number> {
  using dir = tempDir("held-rsync");
  const shell = layShell(dir);
  const child = spawn(["rsync", "-rL", `--rsh=${shell}`, `here:${source}/`, `${target}/`]);
  await using from = await fs.promises.open(dir.file("from"));
  await using to = await fs.promises.open(dir.file("to"), "w");
  const pid = Number(
    await until(() => fs.readFileSync(dir.file("pid"), "utf8").trim(), { what: "the sender" }),
  );
  const seen = new Set<string>();
  for (;;) {
    const { buffer, bytesRead } = await from.read(Buffer.alloc(4096));
    if (bytesRead === 0) break;
    const news = openFiles(pid).filter((path) => !seen.has(path));
    for (const path of news) seen.add(path);
    if (news.length > 0) await atFile();
    try {
      await to.write(buffer.subarray(0, bytesRead));
    } catch {
      // It has given up; its exit code tells.
      break;
    }
  }
  await to.close();
  return await child.exited;
}

/** Writes what rsync takes for ssh: it runs the sender here, with pipes in between. */
function layShell(dir: TempDir): string {
  for (const name of ["from", "to"]) makeFifo(dir.file(name));
  const path = dir.file("shell");
  const script = `#!/bin/sh
shift
exec 3<&0
"$@" <&3 > '${dir.file("from")}' &
echo $! > '${dir.file("pid")}'
exec cat '${dir.file("to")}'
`;
  fs.writeFileSync(path, script, { mode: 0o755 });
  return path;
}

/** Lists the folder, then opens each file by its name, as a tool does that holds no folder open. */
async function copyByName(
  source: string,
  target: string,
  atFile: () => Promise<void>,
): Promise<number> {
  fs.mkdirSync(target);
  let exitCode = 0;
  for (const name of fs.readdirSync(source).toSorted()) {
    await atFile();
    try {
      fs.copyFileSync(join(source, name), join(target, name));
    } catch {
      exitCode = 1;
    }
  }
  return exitCode;
}
