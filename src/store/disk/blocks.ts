import { ReplicaError } from "../../base/errors.ts";
import { closeQuietly, type Disk, diskError } from "./disk.ts";

/** The size of one read, and how many are in flight while a block is processed. */
const BLOCK_BYTES = 1024 * 1024;
const READS_AHEAD = 4;

/**
 * Reads a part of a file in order, a few blocks ahead of `onBlock`.
 * @param onBlock gets a view that is valid until it is done, and the byte of the file where the view begins. Return
 * false to stop.
 * @param signal stops it too.
 * @returns the byte after the last one that was read: less than `to` where the file ends before.
 * @throws ReplicaError DISK_FAILED; the signal's reason; what `onBlock` throws.
 */
export async function readBlocks(
  disk: Disk,
  path: string,
  { from, to }: { readonly from: number; readonly to: number },
  onBlock: (bytes: Uint8Array, fromByte: number) => Promise<boolean | void> | boolean | void,
  signal: AbortSignal,
): Promise<number> {
  let fd: number;
  try {
    fd = disk.openToRead(path);
  } catch (cause) {
    throw diskError("reading", path, cause);
  }
  const reads: { readonly buffer: Uint8Array; readonly bytes: Promise<number> }[] = [];
  let asked = from;
  const ask = (used?: Uint8Array) => {
    const wanted = Math.min(BLOCK_BYTES, to - asked);
    if (wanted <= 0) return;
    const buffer = used ?? new Uint8Array(wanted);
    const bytes = disk.read(fd, buffer.subarray(0, wanted), asked);
    // The loop below reports it, unless an earlier failure ends the loop.
    bytes.catch(() => undefined);
    reads.push({ buffer, bytes });
    asked += wanted;
  };
  let fromByte = from;
  try {
    for (let ahead = 0; ahead <= READS_AHEAD; ahead++) ask();
    for (let read = reads.shift(); read !== undefined; read = reads.shift()) {
      const bytes = await read.bytes.catch((cause: unknown) => {
        throw diskError(`reading byte ${fromByte} of`, path, cause);
      });
      signal.throwIfAborted();
      if (bytes === 0) break;
      const goesOn = await onBlock(read.buffer.subarray(0, bytes), fromByte);
      fromByte += bytes;
      // A regular file returns less than asked for only at its end.
      if (goesOn === false || bytes < Math.min(BLOCK_BYTES, to - fromByte + bytes)) break;
      ask(read.buffer);
    }
    return fromByte;
  } finally {
    await Promise.allSettled(reads.map(({ bytes }) => bytes));
    closeQuietly(disk, fd);
  }
}

/** A file that is read at any byte. */
export class ReadFile implements Disposable {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #fd: number;

  /** @throws ReplicaError DISK_FAILED. */
  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.#path = path;
    try {
      this.#fd = disk.openToRead(path);
    } catch (cause) {
      throw diskError("reading", path, cause);
    }
  }

  /** Fills the buffer. @throws ReplicaError DISK_FAILED, also where the file ends before. */
  async read(buffer: Uint8Array, position: number): Promise<Uint8Array> {
    for (let done = 0; done < buffer.length;) {
      const at = position + done;
      let bytes: number;
      try {
        bytes = await this.#disk.read(this.#fd, buffer.subarray(done), at);
      } catch (cause) {
        throw diskError(`reading byte ${at} of`, this.#path, cause);
      }
      if (bytes === 0) {
        throw new ReplicaError("DISK_FAILED", {
          retry: "never",
          message: `${this.#path} ends at byte ${at}: was it removed or cut while it was read?`,
        });
      }
      done += bytes;
    }
    return buffer;
  }

  [Symbol.dispose](): void {
    closeQuietly(this.#disk, this.#fd);
  }
}
