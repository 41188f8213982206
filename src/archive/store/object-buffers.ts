import { giveBack } from "../../store/disk/disk.ts";

const MIB = 1024 * 1024;
/** What one buffer holds: the most that a piece or a segment has, with its frames and encrypted to some recipients. */
const BUFFER_BYTES = 16 * MIB + 128 * 1024;
/** Smaller ones come from the allocator, and larger ones, of which there is rarely one. */
const WORTH_BYTES = 4 * MIB;
/** How many are kept while nobody has them: what reading two pieces side by side takes. */
const MAX_FREE = 2;
/** How long they are kept, in milliseconds. */
const IDLE_MS = 2_000;

/** The buffers that were made here, and whether somebody has them now. What is dropped, the garbage collector takes. */
const isLent = new WeakMap<ArrayBufferLike, boolean>();
const free: ArrayBuffer[] = [];
let idle: ReturnType<typeof setTimeout> | undefined;

/**
 * Room for an object's bytes, which hold anything. A virtual machine pays for memory that it touches for the first time: to
 * fill a new buffer takes ten times the CPU of filling one that was used before, and the allocator gives unused memory back
 * to the system after a tenth of a second, sooner than the next object comes.
 *
 * Give it to `recycle` once nothing reads or writes it any more; where that isn't certain, as after an error, drop it.
 */
export function objectBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  const isPooled = bytes >= WORTH_BYTES && bytes <= BUFFER_BYTES;
  const kept = isPooled ? free.pop() : undefined;
  const buffer = kept ?? new ArrayBuffer(isPooled ? BUFFER_BYTES : bytes);
  isLent.set(buffer, true);
  return new Uint8Array(buffer, 0, bytes);
}

/** How much memory an object of so many bytes may take while it is in a buffer: one that was used before has all its pages. */
export function heldBytes(bytes: number): number {
  return bytes >= WORTH_BYTES ? Math.max(bytes, BUFFER_BYTES) : bytes;
}

/** Takes the bytes of an object back, wherever they came from. Call it once, with any view that begins with them. */
export function recycle(bytes: Uint8Array): void {
  const { buffer } = bytes;
  const lent = isLent.get(buffer);
  if (lent === undefined) return giveBack(bytes);
  if (!lent || !(buffer instanceof ArrayBuffer)) return;
  isLent.set(buffer, false);
  if (buffer.byteLength !== BUFFER_BYTES || free.length >= MAX_FREE) {
    buffer.transfer(0);
    return;
  }
  free.push(buffer);
  if (idle === undefined) {
    idle = setTimeout(dropFree, IDLE_MS);
    idle.unref();
  } else idle.refresh();
}

function dropFree(): void {
  idle = undefined;
  for (const buffer of free.splice(0)) buffer.transfer(0);
}
