/**
 * A multiple, of nine terms, of the CRC's polynomial: x^1573 + x^1546 + … + 1. Found by a birthday
 * search over pairs of exponents; the test divides it.
 */
export const SPARSE_MULTIPLE = [1573, 1546, 1351, 1032, 677, 611, 517, 334, 0] as const;

/** The bytes of one fold: a 128-bit vector. */
export const LANE_BYTES = 16;

const [DEGREE, ...LOWER] = SPARSE_MULTIPLE;

/** How far after a lane, in lanes, those lie that it is added to. */
export const DISTANCES: readonly number[] = LOWER.map((exponent) => DEGREE - exponent);

/** The bytes of earlier lanes that must be kept. */
export const HISTORY_BYTES = DEGREE * LANE_BYTES;

const PAGES = 4;
const PAGE_BYTES = 65_536;
/** The room after the history, before the last lanes have to move to the front. */
export const FOLD_BYTES = PAGES * PAGE_BYTES - HISTORY_BYTES;

/*
 * Why it works: over GF(2) squaring doubles each exponent, so with Q the sparse multiple, Q(x)^128 equals
 * Q(x^128) and still is a multiple of the polynomial. Its terms are whole lanes apart. Therefore adding a
 * lane (an XOR) to the eight that lie DISTANCES after it removes the lane without changing the remainder: no
 * table, no shift. Done for each lane in order, a lane becomes itself XOR the eight before it, and only the
 * last 1573 lanes of a message of any length count.
 *
 * WebAssembly has vectors, which JavaScript lacks. The module is a single loop, written out here:
 *
 *   (memory (export "memory") 2)
 *   (func (export "fold") (param $at i32) (param $end i32)
 *     (loop
 *       (v128.store offset=HISTORY (local.get $at)
 *         (v128.xor … (v128.load offset=HISTORY (local.get $at))
 *                     (v128.load offset=HISTORY-16*distance (local.get $at)) …))
 *       (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16)))
 *                          (local.get $end)))))
 */
const I32 = 0x7f;
const LOCAL_GET = 0x20;
const LOCAL_TEE = 0x22;
const I32_CONST = 0x41;
const I32_LT_U = 0x49;
const I32_ADD = 0x6a;
const LOOP = [0x03, 0x40];
const BR_IF_0 = [0x0d, 0x00];
const END = 0x0b;
const V128_XOR = [0xfd, 0x51];
const AT = 0;
const END_OF_DATA = 1;

/** A number as WebAssembly writes it (LEB128). */
function number(value: number): number[] {
  const low = value & 0x7f;
  return value > 0x7f ? [low | 0x80, ...number(value >>> 7)] : [low];
}

function section(id: number, content: number[]): number[] {
  return [id, ...number(content.length), ...content];
}

function name(text: string): number[] {
  return [text.length, ...new TextEncoder().encode(text)];
}

/** v128.load (0) or v128.store (11), of any alignment, at a constant offset from the address. */
function access(code: 0 | 11, offset: number): number[] {
  return [0xfd, code, 0, ...number(offset)];
}

const AT_LOCAL = [LOCAL_GET, AT];
const HEADER = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const NO_LOCALS = [0];

function foldModule(): Uint8Array<ArrayBuffer> {
  const load = (offset: number) => [...AT_LOCAL, ...access(0, offset)];
  const added = DISTANCES.flatMap((lanes) => [
    ...load(HISTORY_BYTES - lanes * LANE_BYTES),
    ...V128_XOR,
  ]);
  const sum = [...AT_LOCAL, ...load(HISTORY_BYTES), ...added, ...access(11, HISTORY_BYTES)];
  const next = [...AT_LOCAL, I32_CONST, LANE_BYTES, I32_ADD, LOCAL_TEE, AT];
  const again = [LOCAL_GET, END_OF_DATA, I32_LT_U, ...BR_IF_0];
  const body = [...NO_LOCALS, ...LOOP, ...sum, ...next, ...again, END, END];
  const types = section(1, [1, 0x60, 2, I32, I32, 0]);
  const functions = section(3, [1, 0]);
  const memories = section(5, [1, 0, PAGES]);
  const names = section(7, [2, ...name("fold"), 0, 0, ...name("memory"), 2, 0]);
  const code = section(10, [1, ...number(body.length), ...body]);
  return Uint8Array.from([...HEADER, ...types, ...functions, ...memories, ...names, ...code]);
}

/** Memory for the earlier lanes followed by the data, and the function that folds the data in place. */
export interface Folder {
  readonly memory: Uint8Array;
  /** Folds from `at` up to `end`: positions after the history, in bytes, `at` below `end`, whole lanes. */
  readonly fold: (at: number, end: number) => void;
}

/** Folds with vectors. @throws WebAssembly.CompileError where the processor, or the system, has none. */
export function vectorFolder(): Folder {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(foldModule()));
  const memory = new Uint8Array((exports["memory"] as WebAssembly.Memory).buffer);
  return { memory, fold: exports["fold"] as Folder["fold"] };
}

/** Folds by words, at a third of the speed, on any machine. */
export function wordFolder(): Folder {
  const memory = new Uint8Array(PAGES * PAGE_BYTES);
  const words = new Int32Array(memory.buffer);
  const [a, b, c, d, e, f, g, h] = DISTANCES.map((lanes) => (lanes * LANE_BYTES) / 4) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const fold = (from: number, end: number): void => {
    const last = (HISTORY_BYTES + end) / 4;
    for (let at = (HISTORY_BYTES + from) / 4; at < last; at++) {
      words[at] =
        words[at]! ^
        (words[at - a]! ^ words[at - b]! ^ words[at - c]! ^ words[at - d]!) ^
        (words[at - e]! ^ words[at - f]! ^ words[at - g]! ^ words[at - h]!);
    }
  };
  return { memory, fold };
}

function anyFolder(): Folder {
  try {
    return vectorFolder();
  } catch {
    return wordFolder();
  }
}

let shared: Folder | undefined;

/** One memory for all checksums, which take turns. Made for the first that needs it: a start takes its time elsewhere. */
export function sharedFolder(): Folder {
  return (shared ??= anyFolder());
}
