import * as z from "zod";
import { ReplicaError } from "../../base/errors.ts";
import { damaged } from "../store/object-store.ts";

/** The format that this program writes, and the newest that it reads. */
export const ARCHIVE_FORMAT = 1;

/** A description has some hundred bytes, that of a base some hundred for each piece: 64 GiB are 4,096 of these. */
export const MAX_DOCUMENT_BYTES = 32 * 1024 * 1024;

const format = z.int().min(1);
const offset = z
  .int()
  .min(0)
  .max(2 ** 52);
const crc64 = z.string().regex(/^[0-9a-f]{16}$/);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const bytes = z.int().min(0);
const time = z.iso.datetime();

/** How pieces and segments are compressed; `none` is frames that hold the bytes as they are. */
export const CODECS = ["zstd", "none"] as const;
export type Codec = (typeof CODECS)[number];

const archive = z.object({ format, kind: z.literal("replica-archive") });

const generation = z.object({
  format,
  started: time,
  /** The program that writes it: `replica 0.1.0`. */
  program: z.string(),
  /** The primary's address and the version that it told, for people. */
  primary: z.string(),
  primaryVersion: z.string().optional(),
  /** How the base begins, `REDIS0011`; archives of before don't say. */
  rdbFormat: z
    .string()
    .regex(/^[A-Z]{5,6}\d{3,4}$/)
    .optional(),
  /** The history in which the log begins, and the offset of the last byte in the base. */
  replid: z.string().regex(/^[0-9A-Za-z]{40}$/),
  baseOffset: offset,
  codec: z.enum(CODECS),
  /** The age recipients that can read it; none: it is not encrypted. */
  recipients: z.array(z.string()),
  /**
   * Which generation of which data directory it is. The name is that of the folder of the first one that the directory has
   * archived, as far as it knows; the number tells which comes after which. Before this was written there was none.
   */
  lineage: z.optional(z.object({ name: z.string(), generation: z.int().min(0) })),
});

const base = z.object({
  format,
  finished: time,
  rdbBytes: bytes,
  /** As `replica.db` records it: of all bytes but the last 8, in which an RDB states it itself. */
  rdbCrc64: crc64,
  /** In their order: the name in `base/`, the object's size and SHA-256, and the bytes of the RDB that it holds. */
  pieces: z.array(z.object({ name: z.string(), bytes, sha256, rdbBytes: bytes })),
});

const sealed = z.object({
  format,
  sealed: time,
  /** Why it ended, for people. */
  reason: z.string(),
  /** Where its log ends, and the CRC64 of all of it. */
  endOffset: offset,
  endCrc64: crc64,
});

/** The same bytes whoever removes it. */
const removed = z.object({ format, kind: z.literal("removed-generation") });

/** Says that the shards of a cluster are archived below, each as an archive of its own. */
const cluster = z.object({ format, kind: z.literal("replica-cluster-archive") });

const count = z.int().min(0);
const timeMs = z.int();
/** What a directory's looks at its cluster found in some stretch of time. See `ClusterHistory` for the fields. */
const layouts = z.object({
  format,
  fromMs: timeMs,
  toMs: timeMs,
  shards: z.array(
    z.object({
      number: z.int().min(1),
      name: z.string().regex(/^\d{4,9}-[0-9a-f]{8}$/),
      shardId: z.string().optional(),
      startedMs: timeMs,
      endedMs: timeMs.optional(),
      endedWhy: z.string().optional(),
    }),
  ),
  layouts: z.array(
    z.object({
      atMs: timeMs,
      confirmedMs: timeMs,
      epoch: count,
      /** By the number of the shard, as `nodes.conf` writes ranges: `0-5460 5462`. */
      slots: z.record(z.string().regex(/^[1-9]\d{0,8}$/), z.string()),
    }),
  ),
  openSlots: z.array(
    z.object({
      slot: count,
      source: z.int().min(1),
      target: z.int().min(1),
      fromMs: timeMs,
      untilMs: timeMs.optional(),
    }),
  ),
});

const SCHEMAS = { archive, generation, base, sealed, removed, cluster, layouts };
export type DocumentKind = keyof typeof SCHEMAS;

type Document<K extends DocumentKind> = z.infer<(typeof SCHEMAS)[K]>;
export type ArchiveDocument = Document<"archive">;
export type GenerationDocument = Document<"generation">;
export type BaseDocument = Document<"base">;
export type SealedDocument = Document<"sealed">;
export type LayoutsDocument = Document<"layouts">;

/** The document that every archive of this format has: the same bytes whoever writes it. */
export const ARCHIVE_DOCUMENT: ArchiveDocument = {
  format: ARCHIVE_FORMAT,
  kind: "replica-archive",
};

/** The document that the archive of a cluster has: the same bytes whoever writes it. */
export const CLUSTER_DOCUMENT: Document<"cluster"> = {
  format: ARCHIVE_FORMAT,
  kind: "replica-cluster-archive",
};

/** The document that a generation has which is being removed. */
export const REMOVED_DOCUMENT: Document<"removed"> = {
  format: ARCHIVE_FORMAT,
  kind: "removed-generation",
};

/** A document as it is stored: the same bytes for the same content. */
export function encodeDocument<K extends DocumentKind>(kind: K, document: Document<K>): Uint8Array {
  const checked = SCHEMAS[kind].parse(document);
  return Buffer.from(`${JSON.stringify(checked, undefined, 2)}\n`);
}

/**
 * Reads a document. What it has besides is left out, so that newer programs may add to it.
 * @param place what people call the object, for errors.
 * @throws ReplicaError ARCHIVE_TOO_NEW for a newer format; ARCHIVE_DAMAGED for anything else that it can't be.
 */
export function decodeDocument<K extends DocumentKind>(
  kind: K,
  place: string,
  stored: Uint8Array,
): Document<K> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(stored));
  } catch {
    throw damaged(place, "is no JSON: it was cut short or changed");
  }
  const found = z.object({ format }).safeParse(json);
  if (found.success && found.data.format > ARCHIVE_FORMAT) {
    throw new ReplicaError("ARCHIVE_TOO_NEW", {
      retry: "never",
      message: `${place} has format ${found.data.format}, this program reads up to ${ARCHIVE_FORMAT}: use a newer one`,
    });
  }
  const read = SCHEMAS[kind].safeParse(json);
  if (read.success) return read.data as Document<K>;
  const [issue] = read.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
  throw damaged(place, `is not what it should be${where}: it was changed`);
}
