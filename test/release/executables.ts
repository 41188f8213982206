import type { Buffer } from "node:buffer";

/** What an executable says that it runs on. */
export interface Executable {
  readonly format: "elf" | "mach-o";
  readonly machine: "x64" | "arm64";
  /** The loader that it asks for, which tells the C library: `/lib/ld-musl-x86_64.so.1`. */
  readonly loader: string;
}

const ELF = 0x7f454c46;
const MACH_O_64 = 0xfeedfacf;
/** e_machine of elf(5), and cputype of <mach/machine.h>. */
const ELF_MACHINES: Record<number, Executable["machine"]> = { 62: "x64", 183: "arm64" };
const MACH_MACHINES: Record<number, Executable["machine"]> = {
  0x01000007: "x64",
  0x0100000c: "arm64",
};
const PT_INTERP = 3;
const EXECUTABLES = { elf: 2, machO: 2 };
const [LC_LOAD_DYLINKER, LC_CODE_SIGNATURE] = [0xe, 0x1d];
const SUPER_BLOB = 0xfade0cc0;
const CODE_DIRECTORY = 0xfade0c02;
const SHA256 = 2;

/** Reads the headers of an executable of 64 bits. @throws Error for anything else. */
export function executableOf(bytes: Buffer): Executable {
  if (bytes.readUInt32BE(0) === ELF) return elf(bytes);
  if (bytes.readUInt32LE(0) === MACH_O_64) return machO(bytes);
  throw new Error("neither ELF nor Mach-O");
}

function known(
  machines: Record<number, Executable["machine"]>,
  machine: number,
): Executable["machine"] {
  const name = machines[machine];
  if (name === undefined) throw new Error(`unknown machine ${machine}`);
  return name;
}

function elf(bytes: Buffer): Executable {
  const [isWide, type] = [bytes[4] === 2, bytes.readUInt16LE(16)];
  if (!isWide || type !== EXECUTABLES.elf) throw new Error("no ELF executable of 64 bits");
  const machine = known(ELF_MACHINES, bytes.readUInt16LE(18));
  const [at, size, count] = [
    Number(bytes.readBigUInt64LE(32)),
    bytes.readUInt16LE(54),
    bytes.readUInt16LE(56),
  ];
  for (let header = at; header < at + size * count; header += size) {
    if (bytes.readUInt32LE(header) !== PT_INTERP) continue;
    const offset = Number(bytes.readBigUInt64LE(header + 8));
    return { format: "elf", machine, loader: textAt(bytes, offset) };
  }
  throw new Error("it asks for no loader");
}

function machO(bytes: Buffer): Executable {
  if (bytes.readUInt32LE(12) !== EXECUTABLES.machO) throw new Error("no Mach-O executable");
  const machine = known(MACH_MACHINES, bytes.readUInt32LE(4));
  const at = loadCommand(bytes, LC_LOAD_DYLINKER);
  return { format: "mach-o", machine, loader: textAt(bytes, at + bytes.readUInt32LE(at + 8)) };
}

/** Where the load command of that kind begins. */
function loadCommand(bytes: Buffer, kind: number): number {
  let at = 32;
  for (let left = bytes.readUInt32LE(16); left > 0; left--) {
    if (bytes.readUInt32LE(at) === kind) return at;
    at += bytes.readUInt32LE(at + 4);
  }
  throw new Error(`no load command ${kind}`);
}

function textAt(bytes: Buffer, at: number): string {
  return bytes.toString("latin1", at, bytes.indexOf(0, at));
}

/**
 * Counts the pages of a Mach-O executable that its own signature covers, and those whose checksum differs from what that says.
 * macOS ends a program on Apple's processors at the first such page. See <kern/cs_blobs.h> of XNU.
 */
export function signedPages(bytes: Buffer): { pages: number; wrong: number } {
  const command = loadCommand(bytes, LC_CODE_SIGNATURE);
  const start = bytes.readUInt32LE(command + 8);
  const blob = bytes.subarray(start, start + bytes.readUInt32LE(command + 12));
  if (blob.readUInt32BE(0) !== SUPER_BLOB) throw new Error("no signature");
  for (let index = 0; index < blob.readUInt32BE(8); index++) {
    const directory = blob.subarray(blob.readUInt32BE(12 + index * 8 + 4));
    if (directory.readUInt32BE(0) !== CODE_DIRECTORY) continue;
    return checkedPages(bytes, directory);
  }
  throw new Error("the signature has no code directory");
}

function checkedPages(bytes: Buffer, directory: Buffer): { pages: number; wrong: number } {
  const [hashesAt, pages, codeLimit] = [16, 28, 32].map((at) => directory.readUInt32BE(at)) as [
    number,
    number,
    number,
  ];
  const [hashBytes, hashType, pageBytes] = [
    directory[36]!,
    directory[37]!,
    2 ** directory[39]!,
  ] as const;
  if (hashType !== SHA256) throw new Error(`hash type ${hashType}`);
  let wrong = 0;
  for (let page = 0; page < pages; page++) {
    const end = Math.min((page + 1) * pageBytes, codeLimit);
    const hash = Bun.SHA256.hash(bytes.subarray(page * pageBytes, end)) as Uint8Array;
    const at = hashesAt + page * hashBytes;
    if (!directory.subarray(at, at + hashBytes).equals(hash)) wrong++;
  }
  return { pages, wrong };
}

/** The names of the files inside a compiled program, each once. */
export function filesInside(bytes: Buffer): string[] {
  const prefix = "/$bunfs/root/";
  const names = new Set<string>();
  for (let at = bytes.indexOf(prefix); at >= 0; at = bytes.indexOf(prefix, at + 1)) {
    const text = bytes.toString("latin1", at + prefix.length, at + 120);
    // Behind a name stands what its length and the next one's are.
    const [name] = /^[\w-]+\.(?:js|css|html|json|svg|wasm)/.exec(text) ?? [];
    // Bun itself speaks of this one.
    if (name !== undefined && name !== "sourcemap.js") names.add(name);
  }
  return [...names];
}
