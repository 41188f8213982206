import { giveBack } from "../../store/disk/disk.ts";

const MIB = 1024 * 1024;
/** Buffers of one size, which are used again. */
interface Pool {
  readonly bufferBytes: number;
  /** Less than that comes from the allocator. */
  readonly worthBytes: number;
  /** How many are kept while nobody has them. */
  readonly maxFree: number;
  readonly free: ArrayBuffer[];
}

/** What is larger than these, of which there is rarely one, comes from the allocator. */
const POOLS: readonly Pool[] = [
  // The data of a frame: one is read while the one before it is compressed.
  { bufferBytes: 2 * MIB, worthBytes: MIB, maxFree: 2, free: [] },
  // The most that a piece or a segment has, with its frames and encrypted to some recipients; two are read side by side.
  { bufferBytes: 16 * MIB + 128 * 1024, worthBytes: 4 * MIB, maxFree: 2, free: [] },
];
/** How long they are kept, in milliseconds. */
const IDLE_MS = 2_000;

/** The buffers that were made here, and whether somebody has them now. What is dropped, the garbage collector takes. */
const isLent = new WeakMap<ArrayBufferLike, boolean>();
let idle: ReturnType<typeof setTimeout> | undefined;

/**
 * Room for an object's bytes, which hold anything. A virtual machine pays for memory that it touches for the first time: to
 * fill a new buffer takes ten times the CPU of filling one that was used before, and the allocator gives unused memory back
 * to the system after a tenth of a second, sooner than the next object comes.
 *
 * Give it to `recycle` once nothing reads or writes it any more; where that isn't certain, as after an error, drop it.
 */
export function objectBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  const pool = poolFor(bytes);
  const buffer = pool?.free.pop() ?? new ArrayBuffer(pool?.bufferBytes ?? bytes);
  isLent.set(buffer, true);
  return new Uint8Array(buffer, 0, bytes);
}

/** How much memory an object of so many bytes may take while it is in a buffer: one that was used before has all its pages. */
export function heldBytes(bytes: number): number {
  return poolFor(bytes)?.bufferBytes ?? bytes;
}

function poolFor(bytes: number): Pool | undefined {
  return POOLS.find((pool) => bytes >= pool.worthBytes && bytes <= pool.bufferBytes);
}

/** Takes the bytes of an object back, wherever they came from. Call it once, with any view that begins with them. */
export function recycle(bytes: Uint8Array): void {
  const { buffer } = bytes;
  const lent = isLent.get(buffer);
  if (lent === undefined) return giveBack(bytes);
  if (!lent || !(buffer instanceof ArrayBuffer)) return;
  isLent.set(buffer, false);
  const pool = POOLS.find(({ bufferBytes }) => bufferBytes === buffer.byteLength);
  if (pool === undefined || pool.free.length >= pool.maxFree) {
    buffer.transfer(0);
    return;
  }
  pool.free.push(buffer);
  if (idle === undefined) {
    idle = setTimeout(dropFree, IDLE_MS);
    idle.unref();
  } else idle.refresh();
}

function dropFree(): void {
  idle = undefined;
  for (const { free } of POOLS) for (const buffer of free.splice(0)) buffer.transfer(0);
}
