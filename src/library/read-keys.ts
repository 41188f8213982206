import { Glob } from "../base/glob.ts";
import { usageError } from "../base/errors.ts";
import type { RdbEntry } from "../rdb/reader/entry.ts";
import { RdbReader } from "../rdb/reader/rdb-reader.ts";
import { readBlocks } from "../store/disk/blocks.ts";
import { realDisk } from "../store/disk/disk.ts";
import { filesOf } from "../store/generation/layout.ts";
import { Catalogue } from "../store/restore/catalogue.ts";
import { describeDamage } from "../store/restore/damage.ts";
import { restorePoint } from "../store/restore/restore-point.ts";
import type { KeyEntry, RdbStream, ReadKeysOptions } from "./api/read.d.ts";
import { type Give, inBatches } from "./batches.ts";
import { chunksOf } from "./given-stream.ts";
import { OF_KEYS, wantOptions } from "./option-names.ts";
import { wantCount, wantText } from "./rejections.ts";
import { openArchiveAt, sourceOf, warnerOf } from "./sources.ts";

/** The keys of so many bytes of an RDB are held at once: some thousand small ones. */
const PIECE_BYTES = 64 * 1024;

/** Reads the keys of an RDB. See the declaration of `readKeys`. */
export function keysOf(
  given: string | RdbStream,
  options: ReadKeysOptions,
  signal: AbortSignal,
): AsyncIterable<KeyEntry> {
  wantOptions(options, OF_KEYS);
  const matches = matcherOf(options);
  return inBatches<KeyEntry>(async (give, stop) => {
    const read = new KeyReader(matches, give);
    const push = async (bytes: Uint8Array) => await read.push(bytes);
    if (!isStream(given)) await pushSource(given, options, push, stop);
    else {
      for await (const bytes of chunksOf(given, stop)) await push(bytes);
    }
    stop.throwIfAborted();
    read.finish();
  }, signal);
}

function isStream(given: string | RdbStream): given is RdbStream {
  return typeof given === "object" && given !== null && Symbol.asyncIterator in given;
}

type Push = (bytes: Uint8Array) => Promise<void>;

async function pushSource(
  given: string,
  options: ReadKeysOptions,
  push: Push,
  signal: AbortSignal,
): Promise<void> {
  const source = sourceOf(given);
  if (source.kind === "archive") return await pushArchived(source.url, options, push, signal);
  const path = source.kind === "file" ? source.path : baseIn(source.path, options);
  await readBlocks(realDisk, path, { from: 0, to: Infinity }, push, signal);
}

/** The snapshot of a generation of an archive: its pieces as they come, without a file. */
async function pushArchived(
  url: string,
  options: ReadKeysOptions,
  push: Push,
  signal: AbortSignal,
): Promise<void> {
  const { generation } = options;
  if (typeof generation === "number")
    throw usageError("the option generation is a number: an archive's are names");
  const archive = await openArchiveAt(url, options, signal);
  const [{ archivePoint }, { readBase }] = await Promise.all([
    import("../archive/reader/archive-point.ts"),
    import("../archive/reader/read-base.ts"),
  ]);
  for (const damage of archive.damages) warnerOf(options)(describeDamage(damage));
  const wanted = { generation, atMs: undefined, offset: undefined };
  const point = await archivePoint(archive, wanted, signal);
  for await (const bytes of readBase(archive, point.generation, signal)) await push(bytes);
}

/** The snapshot of a generation of a data directory. */
function baseIn(dir: string, options: ReadKeysOptions): string {
  const { generation } = options;
  if (typeof generation === "string")
    throw usageError("the option generation is a text: a data directory's are numbers");
  using catalogue = new Catalogue(dir);
  for (const loss of catalogue.losses) warnerOf(options)(describeDamage(loss));
  const id = wantCount(generation, "the option generation");
  const wanted = { generation: id, atMs: undefined, offset: undefined };
  return filesOf(restorePoint(catalogue, wanted).generation).base;
}

/** Collects the keys of some bytes at a time. */
class KeyReader {
  readonly #reader: RdbReader;
  readonly #give: Give<KeyEntry>;
  #batch: Key[] = [];

  constructor(matches: (entry: RdbEntry) => boolean, give: Give<KeyEntry>) {
    this.#give = give;
    this.#reader = new RdbReader({
      entry: (entry) => {
        if (matches(entry)) this.#batch.push(new Key(entry));
      },
    });
  }

  async push(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
      this.#reader.push(bytes.subarray(from, from + PIECE_BYTES));
      const batch = this.#batch;
      this.#batch = [];
      await this.#give(batch);
    }
  }

  /** @throws RdbError where the RDB ended too early, or was changed. */
  finish(): void {
    this.#reader.finish();
  }
}

/** Its own copy of what the reader uses again for the next key. */
class Key implements KeyEntry {
  readonly db: number;
  readonly key: Uint8Array;
  readonly kind: RdbEntry["kind"];
  readonly module: string | undefined;
  readonly encoding: string;
  readonly expiresAtMs: number | undefined;
  readonly elements: number | undefined;
  readonly stringBytes: number | undefined;
  readonly bytes: number;

  constructor(entry: RdbEntry) {
    this.db = entry.db;
    // A copy also of a Buffer, whose own slice is a view.
    this.key = new Uint8Array(entry.key);
    this.kind = entry.kind;
    this.module = entry.module;
    this.encoding = entry.encoding;
    this.expiresAtMs = entry.expiresAtMs;
    this.elements = entry.elements;
    this.stringBytes = entry.stringBytes;
    this.bytes = entry.endByte - entry.startByte;
  }

  get text(): string {
    return Buffer.from(this.key.buffer, this.key.byteOffset, this.key.length).toString();
  }
}

function matcherOf({ match, db: only }: ReadKeysOptions): (entry: RdbEntry) => boolean {
  const db = wantCount(only, "the option db");
  const texts =
    match === undefined
      ? undefined
      : [match].flat().map((pattern) => wantText(pattern, "the option match"));
  // KEYS lists an empty key for a star alone, though its matching says that it doesn't match one.
  const patterns = texts?.includes("*") === true ? undefined : texts;
  // Patterns are bytes, one character each, as keys are.
  const globs = patterns?.map((text) => new Glob(Buffer.from(text).toString("latin1")));
  return (entry) => {
    if (db !== undefined && entry.db !== db) return false;
    if (globs === undefined) return true;
    const { buffer, byteOffset } = entry.keyBuffer;
    const bytes = Buffer.from(buffer, byteOffset + entry.keyStart, entry.keyEnd - entry.keyStart);
    const text = bytes.toString("latin1");
    return globs.some((glob) => glob.matches(text));
  };
}
