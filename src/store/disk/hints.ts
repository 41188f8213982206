import { FFIType } from "bun:ffi";
import { libc } from "../../base/libc.ts";

/** SYNC_FILE_RANGE_WRITE of Linux: begin, and don't wait for the end. */
const WRITE = 2;
/** POSIX_FADV_DONTNEED of Linux. */
const DONT_NEED = 4;

/**
 * What the kernel is told of a part of a file, in bytes, so that it writes it faster. None of it changes what was written,
 * and a failed write is reported by the sync after it.
 */
export interface DiskHints {
  /**
   * Begins to write to the disk what the page cache holds of it, and doesn't wait for the disk unless its queue is full: little is
   * left for the sync that follows.
   */
  startWriteback(fd: number, position: number, bytes: number): void;
  /**
   * Drops what is on the disk from the page cache. The pages are then used for what comes next, in place of memory of which a
   * virtual machine must first be given each page; and what others have in the cache stays there.
   */
  dropCached(fd: number, position: number, bytes: number): void;
  /**
   * Reserves room for it, and makes the file that long: direct writes that each make a file longer wait for each other.
   * @returns false where the file system can't, or has no room.
   */
  reserve(fd: number, position: number, bytes: number): boolean;
}

/** Where the system has no such calls (macOS). */
const none: DiskHints = {
  startWriteback: () => undefined,
  dropCached: () => undefined,
  reserve: () => false,
};

let opened: DiskHints | undefined;

/** The hints of Linux. */
export const diskHints: DiskHints = {
  startWriteback: (...part) => hints().startWriteback(...part),
  dropCached: (...part) => hints().dropCached(...part),
  reserve: (...part) => hints().reserve(...part),
};

function hints(): DiskHints {
  return (opened ??= open());
}

function open(): DiskHints {
  const { i32, i64_fast, u32 } = FFIType;
  try {
    const { symbols } = libc({
      sync_file_range: { args: [i32, i64_fast, i64_fast, u32], returns: i32 },
      posix_fadvise: { args: [i32, i64_fast, i64_fast, i32], returns: i32 },
      fallocate: { args: [i32, i32, i64_fast, i64_fast], returns: i32 },
    });
    return {
      startWriteback: (fd, position, bytes) =>
        void symbols.sync_file_range(fd, position, bytes, WRITE),
      dropCached: (fd, position, bytes) =>
        void symbols.posix_fadvise(fd, position, bytes, DONT_NEED),
      reserve: (fd, position, bytes) => symbols.fallocate(fd, 0, position, bytes) === 0,
    };
  } catch {
    return none;
  }
}
