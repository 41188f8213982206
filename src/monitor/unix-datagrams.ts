import { FFIType, ptr } from "bun:ffi";
import { endianness } from "node:os";
import { libc } from "../base/libc.ts";

// Constants of Linux, the same on every processor that Bun runs on.
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const FAMILY_BYTES = 2;
/** Length of sun_path in sockaddr_un. */
const MAX_PATH_BYTES = 108;

const { i32, i64_fast: i64, ptr: pointer, u32, u64 } = FFIType;
const calls = {
  socket: { args: [i32, i32, i32], returns: i32 },
  sendto: { args: [i32, pointer, u64, i32, pointer, u32], returns: i64 },
} as const;

/**
 * Opens a sender of datagrams to a Unix socket, which Bun lacks.
 * @param path the socket's path, or `@` and its abstract name.
 * @returns a function that sends one datagram without waiting, and returns whether it was sent. Undefined off
 * Linux, and where `path` can't name a socket.
 * @throws Error where the C library can't be found.
 */
export function datagramsTo(path: string): ((message: Uint8Array) => boolean) | undefined {
  const address = unixAddress(path);
  if (address === undefined || process.platform !== "linux") return undefined;
  const { socket, sendto } = libc(calls).symbols;
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  return (message) =>
    Number(sendto(fd, ptr(message), message.length, flags, ptr(address), address.length)) ===
    message.length;
}

/** The sockaddr_un of an absolute path, or of `@` and an abstract name; undefined for anything else. */
export function unixAddress(path: string): Uint8Array | undefined {
  const name = Buffer.from(path);
  const isAbstract = path.startsWith("@");
  if ((!isAbstract && !path.startsWith("/")) || path.includes("\0")) return undefined;
  // A path ends with a zero byte. An abstract name starts with one, and ends where the address ends.
  if (isAbstract) name[0] = 0;
  const room = isAbstract ? MAX_PATH_BYTES : MAX_PATH_BYTES - 1;
  if (name.length > room) return undefined;
  const address = Buffer.alloc(FAMILY_BYTES + name.length + (isAbstract ? 0 : 1));
  if (endianness() === "LE") address.writeUInt16LE(AF_UNIX);
  else address.writeUInt16BE(AF_UNIX);
  name.copy(address, FAMILY_BYTES);
  return address;
}
