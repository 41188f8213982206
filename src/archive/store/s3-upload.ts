import { ReplicaError, usageError } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import { conflict, sha256Of } from "./object-store.ts";
import type { S3Client } from "./s3-client.ts";
import type { Doing } from "./s3-refusal.ts";
import type { S3Answer } from "./s3-transport.ts";
import { parseXml, textOf } from "./xml.ts";

/** S3 takes so many parts at most; all but the last have 5 MiB at least. */
const MAX_PARTS = 10_000;
const MIB = 1024 * 1024;
/** The first half of the parts, and how many of them are in memory: one is filled while the others are sent. */
const SMALL = { bytes: 8 * MIB, buffers: 3 };
/** The others, so that an object of unknown length can become this large: 156 GiB. */
const LARGE = { bytes: 24 * MIB, buffers: 2 };
const MAX_UPLOAD_BYTES = (MAX_PARTS / 2) * (SMALL.bytes + LARGE.bytes);

/** What answers have to say. */
const ANSWER_BYTES = 64 * 1024;
/** How long a store may take to forget an upload that is given up. */
const ABORT_MS = 30_000;

/** An object of any length that is stored in parts, and is there as a whole or not at all. */
export interface ObjectUpload {
  /** What people call the object. */
  readonly place: string;
  /** The most bytes that it may have. */
  readonly maxBytes: number;
  /**
   * Takes the next bytes, of which no view is kept; resolves once there is room for more.
   * @throws ReplicaError of the store, which a part failed with.
   */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Stores what was written as the object, durably once this resolves.
   * @throws ReplicaError ARCHIVE_CONFLICT where somebody else has stored one of that name; of the store. Then it isn't there.
   */
  complete(): Promise<void>;
  /** Whether the store was asked to complete it, so that there is no way back. */
  readonly isCompleting: boolean;
  /** Gives it up, unless it is complete: nothing of it stays in the store. Never throws. @returns why parts may stay there. */
  abort(): Promise<ReplicaError | undefined>;
}

/** Where an upload goes, and what it takes. */
export interface UploadParts {
  readonly client: S3Client;
  readonly clock: Clock;
  /** The whole key, and what people call it. */
  readonly key: string;
  readonly place: string;
  /** Whether an object of that name is replaced. */
  readonly replaces: boolean;
}

interface SentPart {
  readonly etag: string;
  readonly sha256: Buffer;
}

/** An upload to a bucket. */
export class S3Upload implements ObjectUpload {
  readonly place: string;
  readonly maxBytes = MAX_UPLOAD_BYTES;
  readonly #parts: UploadParts;
  readonly #id: string;
  readonly #sent: SentPart[] = [];
  readonly #sending = new Set<Promise<void>>();
  readonly #over = new AbortController();
  readonly #free: Uint8Array[] = [];
  #buffers = 0;
  #filling: Uint8Array | undefined;
  #filledBytes = 0;
  #begun = 0;
  #bytes = 0;
  #failure: unknown;
  #isComplete = false;
  isCompleting = false;
  #aborting: Promise<ReplicaError | undefined> | undefined;

  private constructor(parts: UploadParts, id: string) {
    this.place = parts.place;
    this.#parts = parts;
    this.#id = id;
  }

  /**
   * Begins an upload, which then ends with `complete` or `abort` alone.
   * @throws ReplicaError USAGE where an object of that name is there and must not be replaced; of the store.
   */
  static async begin(parts: UploadParts, signal: AbortSignal): Promise<S3Upload> {
    const { client, key, place, replaces } = parts;
    if (!replaces && (await sizeAndTag(parts, signal)) !== undefined) {
      throw usageError(`${place} is there already: name another object, or give --force`);
    }
    const answer = await client.send(
      {
        method: "POST",
        key,
        query: { uploads: "" },
        headers: { "x-amz-checksum-algorithm": "SHA256" },
        maxBytes: ANSWER_BYTES,
      },
      { verb: "storing", place },
      signal,
      [],
      async (got) => (idIn(got) === undefined ? "it gives the upload no id" : undefined),
    );
    return new S3Upload(parts, idIn(answer)!);
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      if (this.#failure !== undefined) throw this.#failure;
      const part = (this.#filling ??= await this.#buffer());
      const taken = Math.min(part.length - this.#filledBytes, bytes.length - at);
      part.set(bytes.subarray(at, at + taken), this.#filledBytes);
      this.#filledBytes += taken;
      at += taken;
      if (this.#filledBytes === part.length) this.#sendPart();
    }
  }

  /** Fresh large buffers are dear: these are used again and again. */
  async #buffer(): Promise<Uint8Array> {
    const { bytes, buffers } = this.#begun < MAX_PARTS / 2 ? SMALL : LARGE;
    for (;;) {
      const free = this.#free.pop();
      if (free?.length === bytes) return free;
      if (free !== undefined) this.#buffers--;
      else if (this.#buffers < buffers) {
        this.#buffers++;
        return new Uint8Array(bytes);
      } else await Promise.race(this.#sending);
      if (this.#failure !== undefined) throw this.#failure;
    }
  }

  #sendPart(): void {
    const buffer = this.#filling!;
    const bytes = buffer.subarray(0, this.#filledBytes);
    const index = this.#begun++;
    this.#bytes += bytes.length;
    this.#filling = undefined;
    this.#filledBytes = 0;
    const sending: Promise<void> = this.#send(index, bytes)
      .catch((error: unknown) => {
        this.#failure ??= error;
        // The others aren't needed.
        this.#over.abort(error);
      })
      .finally(() => {
        this.#free.push(buffer);
        this.#sending.delete(sending);
      });
    this.#sending.add(sending);
  }

  async #send(index: number, bytes: Uint8Array): Promise<void> {
    if (index >= MAX_PARTS) throw tooLong(this.place);
    const { client, key } = this.#parts;
    const sha256 = await sha256Of(bytes);
    const query = { partNumber: String(index + 1), uploadId: this.#id };
    const body = { bytes, sha256 };
    const answer = await client.send(
      { method: "PUT", key, query, body, maxBytes: ANSWER_BYTES },
      this.#doing("storing"),
      this.#over.signal,
      [],
      async (got) => wrongPart(got, sha256),
    );
    this.#sent[index] = { etag: answer.headers.get("etag")!, sha256 };
  }

  async complete(): Promise<void> {
    if (this.#filledBytes > 0) this.#sendPart();
    await Promise.all(this.#sending);
    if (this.#failure !== undefined) throw this.#failure;
    const { replaces } = this.#parts;
    // Not every store heeds a condition here.
    if (!replaces && (await sizeAndTag(this.#parts, this.#over.signal)) !== undefined)
      throw conflict(this.place);
    this.#over.signal.throwIfAborted();
    this.isCompleting = true;
    let { status } = await this.#sendComplete(!replaces);
    if (status === 501) ({ status } = await this.#sendComplete(false));
    if (status >= 300 && !(await this.#isThere())) throw this.#notCompleted(status);
    this.#isComplete = true;
  }

  async #sendComplete(isConditional: boolean): Promise<S3Answer> {
    const { client, key } = this.#parts;
    const bytes = Buffer.from(completionXml(this.#sent));
    return await client.send(
      {
        method: "POST",
        key,
        query: { uploadId: this.#id },
        headers: isConditional ? { "if-none-match": "*" } : {},
        // Its checksum would be taken for the object's.
        body: { bytes, sha256: await sha256Of(bytes), isObject: false },
        maxBytes: ANSWER_BYTES,
      },
      this.#doing("storing"),
      this.#over.signal,
      // A try whose answer was lost may have completed it.
      [404, 412, 501],
    );
  }

  /** Whether the object is there, and is this one: by its tag, where that is one of parts, else by its size. */
  async #isThere(): Promise<boolean> {
    const found = await sizeAndTag(this.#parts, this.#over.signal);
    if (found === undefined || found.bytes !== this.#bytes) return false;
    const expected = tagOf(this.#sent);
    return expected === undefined || !/^"?[0-9a-f]{32}-\d+"?$/.test(found.etag)
      ? true
      : found.etag.replaceAll('"', "") === expected;
  }

  #notCompleted(status: number): ReplicaError {
    if (status === 412) return conflict(this.place);
    return new ReplicaError("ARCHIVE_FAILED", {
      retry: "never",
      message: `storing ${this.place}: the store no longer knows its parts: somebody has ended the upload`,
    });
  }

  abort(): Promise<ReplicaError | undefined> {
    this.#aborting ??= this.#abort();
    return this.#aborting;
  }

  async #abort(): Promise<ReplicaError | undefined> {
    if (this.#isComplete) return undefined;
    const { client, clock, key } = this.#parts;
    this.#over.abort(new Error("the upload is given up"));
    // A part that is under way would come after it.
    await Promise.all(this.#sending);
    const [late, done] = [new AbortController(), new AbortController()];
    void clock.sleep(ABORT_MS, done.signal).then(() => late.abort(new Error("it took too long")));
    const query = { uploadId: this.#id };
    try {
      const request = { method: "DELETE", key, query, maxBytes: ANSWER_BYTES } as const;
      await client.send(request, this.#doing("aborting"), late.signal, [404]);
      return undefined;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const message = `what was uploaded of ${this.place} may stay in the store until it removes parts that were abandoned: ${why}`;
      return new ReplicaError("ARCHIVE_FAILED", { message, cause });
    } finally {
      done.abort();
    }
  }

  #doing(verb: Doing["verb"]): Doing {
    return { verb, place: this.place };
  }
}

/** The error for what doesn't fit into one object. */
function tooLong(place: string): ReplicaError {
  return new ReplicaError("ARCHIVE_FAILED", {
    retry: "never",
    message: `storing ${place}: the snapshot has more than ${MAX_UPLOAD_BYTES} bytes, which is more than ${MAX_PARTS} parts take: write it to a file`,
  });
}

/** Of the object as it is now; undefined where there is none. */
async function sizeAndTag(
  { client, key, place }: UploadParts,
  signal: AbortSignal,
): Promise<{ readonly bytes: number; readonly etag: string } | undefined> {
  const request = { method: "GET", key, headers: { range: "bytes=0-0" }, maxBytes: 1 } as const;
  const answer = await client.send(request, { verb: "reading", place }, signal, [404, 416]);
  if (answer.status === 404) return undefined;
  const { headers } = answer;
  const total = /^bytes \d+-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1];
  const bytes = answer.status === 416 ? 0 : Number(total ?? headers.get("content-length"));
  return { bytes, etag: headers.get("etag") ?? "" };
}

function idIn({ body }: S3Answer): string | undefined {
  const root = parseXml(Buffer.from(body).toString("utf8"));
  const id = root?.name === "InitiateMultipartUploadResult" ? textOf(root, "UploadId") : undefined;
  return id === "" ? undefined : id;
}

function wrongPart({ headers }: S3Answer, sha256: Buffer): string | undefined {
  const stored = headers.get("x-amz-checksum-sha256");
  if (stored !== null && stored !== sha256.toString("base64"))
    return "the store says that it holds other bytes than were sent";
  // It is put into XML.
  return /^"?[\w.+/=-]{1,128}"?$/.test(headers.get("etag") ?? "")
    ? undefined
    : "it gives a part no tag";
}

function completionXml(parts: readonly SentPart[]): string {
  const listed = parts.map(({ etag, sha256 }, index) => {
    const tag = etag.replaceAll('"', "&quot;");
    const sum = `<ChecksumSHA256>${sha256.toString("base64")}</ChecksumSHA256>`;
    return `<Part><PartNumber>${index + 1}</PartNumber><ETag>${tag}</ETag>${sum}</Part>`;
  });
  const space = "http://s3.amazonaws.com/doc/2006-03-01/";
  return `<CompleteMultipartUpload xmlns="${space}">${listed.join("")}</CompleteMultipartUpload>`;
}

/** The tag of an object in parts, where those of its parts are MD5s: the MD5 of these, and their number. */
function tagOf(parts: readonly SentPart[]): string | undefined {
  const tags = parts.map(({ etag }) => etag.replaceAll('"', ""));
  if (!tags.every((tag) => /^[0-9a-f]{32}$/.test(tag))) return undefined;
  const md5 = new Bun.CryptoHasher("md5");
  for (const tag of tags) md5.update(Buffer.from(tag, "hex"));
  return `${md5.digest("hex")}-${tags.length}`;
}
