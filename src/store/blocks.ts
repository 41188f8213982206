import { closeQuietly, type Disk, diskError } from "./disk.ts";

/** So much is read at a time, while the block before is looked at. */
const BLOCK_BYTES = 1024 * 1024;

/**
 * Reads a part of a file in order, each block while the one before is looked at.
 * @param onBlock is given a view that holds until it is done, and where it begins in the file; false
 * ends the reading.
 * @param signal ends it, too.
 * @returns the position up to which was read: less than `to` where the file ends before.
 * @throws ReplicaError DISK_FAILED; the signal's reason; what `onBlock` throws.
 */
export async function readBlocks(
  disk: Disk,
  path: string,
  { from, to }: { readonly from: number; readonly to: number },
  onBlock: (bytes: Uint8Array, position: number) => Promise<boolean | void> | boolean | void,
  signal: AbortSignal,
): Promise<number> {
  const buffers = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)] as const;
  let fd: number | undefined;
  const read = async (position: number, buffer: Uint8Array) => {
    try {
      fd ??= disk.openToRead(path);
      const bytes = Math.min(BLOCK_BYTES, to - position);
      return bytes <= 0 ? 0 : await disk.read(fd, buffer.subarray(0, bytes), position);
    } catch (cause) {
      throw diskError(`reading byte ${position} of`, path, cause);
    }
  };
  let position = from;
  let reading = read(position, buffers[0]);
  try {
    for (let turn = 0; ; turn = 1 - turn) {
      const bytes = await reading;
      signal.throwIfAborted();
      if (bytes === 0) return position;
      reading = read(position + bytes, buffers[1 - turn]!);
      const goesOn = await onBlock(buffers[turn]!.subarray(0, bytes), position);
      position += bytes;
      if (goesOn === false) return position;
    }
  } finally {
    await reading.catch(() => undefined);
    if (fd !== undefined) closeQuietly(disk, fd);
  }
}
