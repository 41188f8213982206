import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import {
  assertKey,
  checkSha256,
  conflict,
  damaged,
  type GetOptions,
  type ListedObject,
  type ListPage,
  type ObjectStore,
  otherSha256,
  sha256Of,
  tooLarge,
} from "./object-store.ts";
import type { S3Address } from "./s3-address.ts";
import type { S3Client } from "./s3-client.ts";
import type { Doing } from "./s3-refusal.ts";
import { type ObjectUpload, S3Upload } from "./s3-upload.ts";
import type { S3Answer, S3Request } from "./s3-transport.ts";
import { childrenOf, parseXml, textOf, type XmlElement } from "./xml.ts";

/** A page has at most a thousand names of at most 1,024 bytes. */
const LIST_BYTES = 8 * 1024 * 1024;
/** What other answers have to say. */
const ANSWER_BYTES = 64 * 1024;

/** An archive in a bucket. */
export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #address: S3Address;
  readonly #client: S3Client;
  /** Whether the store takes conditional writes; one that doesn't says so. */
  #knowsConditions = true;

  constructor(address: S3Address, client: S3Client) {
    this.url = address.url;
    this.#address = address;
    this.#client = client;
  }

  async put(key: string, bytes: Uint8Array, signal: AbortSignal, sha256?: Buffer): Promise<void> {
    const doing = this.#doing("storing", key);
    const body = { bytes, sha256: sha256 ?? (await sha256Of(bytes)) };
    if (this.#knowsConditions) {
      const { status } = await this.#send(key, body, doing, signal, true);
      if (status !== 412 && status !== 501) return;
      if (status === 412 && (await this.#isThere(key, bytes, doing, signal))) return;
      if (status === 412) {
        const message = `${doing.verb} ${doing.place}: the store says that it is there, and then that it isn't`;
        throw new ReplicaError("ARCHIVE_FAILED", { message });
      }
      this.#knowsConditions = false;
    }
    // No other writer has these names: a store that knows no conditions loses nothing else by it.
    if (await this.#isThere(key, bytes, doing, signal)) return;
    await this.#send(key, body, doing, signal, false);
  }

  async #send(
    key: string,
    body: { readonly bytes: Uint8Array; readonly sha256: Buffer },
    doing: Doing,
    signal: AbortSignal,
    isConditional: boolean,
  ): Promise<S3Answer> {
    const request: S3Request = {
      method: "PUT",
      key: this.#keyOf(key),
      ...(isConditional ? { headers: { "if-none-match": "*" } } : {}),
      body,
      maxBytes: ANSWER_BYTES,
    };
    // A store that took other bytes than were sent says so here, and the next try finds them there.
    const check = async ({ headers }: S3Answer) => {
      const stored = headers.get("x-amz-checksum-sha256");
      const isOther = stored !== null && stored !== body.sha256.toString("base64");
      return isOther ? "the store says that it holds other bytes than were sent" : undefined;
    };
    return await this.#client.send(request, doing, signal, isConditional ? [412, 501] : [], check);
  }

  /** Whether the object is there with these bytes. @throws ReplicaError ARCHIVE_CONFLICT: it is there with others. */
  async #isThere(
    key: string,
    bytes: Uint8Array,
    doing: Doing,
    signal: AbortSignal,
  ): Promise<boolean> {
    const there = await this.#fetch(key, { maxBytes: bytes.length }, doing, signal);
    if (there === undefined) return false;
    if (there.isCut || Buffer.compare(there.body, bytes) !== 0) throw conflict(doing.place);
    return true;
  }

  async get(
    key: string,
    options: GetOptions,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { range, maxBytes, sha256 } = options;
    if (range !== undefined && range.to <= range.from) return new Uint8Array(0);
    const doing = this.#doing("reading", key);
    const answer = await this.#fetch(key, options, doing, signal);
    if (answer === undefined) return undefined;
    if (answer.isCut) {
      throw tooLarge(doing.place, Number(answer.headers.get("content-length")), maxBytes);
    }
    // Of a whole object it is checked above.
    if (range !== undefined) await checkSha256(doing.place, answer.body, sha256);
    return answer.body;
  }

  /** The object, or a part of it. What comes damaged is asked for again: it may have been changed on the way. */
  async #fetch(
    key: string,
    { range, maxBytes, sha256 }: GetOptions,
    doing: Doing,
    signal: AbortSignal,
  ): Promise<S3Answer | undefined> {
    const headers: Record<string, string> = { "x-amz-checksum-mode": "ENABLED" };
    if (range !== undefined) headers["range"] = `bytes=${range.from}-${range.to - 1}`;
    const request: S3Request = { method: "GET", key: this.#keyOf(key), headers, maxBytes };
    let hasDiffered = false;
    const check = async (answer: S3Answer) => {
      if (answer.isCut) return undefined;
      if (range !== undefined) return wrongRange(answer, range.from);
      const known = sha256 ?? wholeSha256(answer);
      if (known === undefined || (await sha256Of(answer.body)).toString("hex") === known)
        return undefined;
      if (hasDiffered) throw otherSha256(doing.place);
      hasDiffered = true;
      return "it came with other bytes than its SHA-256 says";
    };
    const answer = await this.#client.send(request, doing, signal, [404, 416], check);
    if (answer.status === 404) return undefined;
    if (answer.status === 416) return { ...answer, body: new Uint8Array(0) };
    // Not every server knows ranges.
    if (range === undefined || answer.status === 206 || answer.isCut) return answer;
    return { ...answer, body: answer.body.subarray(range.from, range.to) };
  }

  async *list(folder: string, signal: AbortSignal): AsyncGenerator<ListPage, void> {
    if (folder !== "") assertKey(folder);
    const prefix = folder === "" ? this.#address.prefix : `${this.#address.prefix}${folder}/`;
    const place = `${this.url}/${folder}`;
    let token: string | undefined;
    do {
      const query: Record<string, string> = {
        "list-type": "2",
        prefix,
        delimiter: "/",
        // A key may hold what XML can't.
        "encoding-type": "url",
        ...(token === undefined ? {} : { "continuation-token": token }),
      };
      const request: S3Request = { method: "GET", key: "", query, maxBytes: LIST_BYTES };
      const answer = await this.#client.send(
        request,
        { verb: "listing", place },
        signal,
        [],
        async (got) => (rootOf(got) === undefined ? "its list is no list" : undefined),
      );
      const root = rootOf(answer)!;
      yield pageOf(root, prefix, answer);
      const next =
        textOf(root, "IsTruncated") === "true" ? textOf(root, "NextContinuationToken") : undefined;
      if (next !== undefined && (next === "" || next === token)) {
        throw damaged(place, "is listed in pages that never end: the store is at fault");
      }
      token = next;
    } while (token !== undefined);
  }

  /** What S3 shows is durable. */
  settle(): Promise<void> {
    return Promise.resolve();
  }

  async delete(key: string, signal: AbortSignal): Promise<void> {
    const request: S3Request = { method: "DELETE", key: this.#keyOf(key), maxBytes: ANSWER_BYTES };
    await this.#client.send(request, this.#doing("deleting", key), signal, [404]);
  }

  async now(signal: AbortSignal): Promise<number | undefined> {
    for await (const { dateMs } of this.list("", signal)) return dateMs;
    return undefined;
  }

  /**
   * Begins to store an object of any length in parts.
   * @param replaces whether an object of that name is replaced.
   * @throws ReplicaError USAGE where one is there and must not be replaced; of the store.
   */
  async upload(
    key: string,
    replaces: boolean,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<ObjectUpload> {
    const named = { key: this.#keyOf(key), place: `${this.url}/${key}` };
    return await S3Upload.begin({ client: this.#client, clock, ...named, replaces }, signal);
  }

  #keyOf(key: string): string {
    assertKey(key);
    return `${this.#address.prefix}${key}`;
  }

  #doing(verb: Doing["verb"], key: string): Doing {
    return { verb, place: `${this.url}/${key}` };
  }
}

/** The SHA-256 that the store kept of the whole object; undefined where it kept none. */
function wholeSha256({ headers }: S3Answer): string | undefined {
  const told = headers.get("x-amz-checksum-sha256");
  // That of an object in parts is of another kind, and ends with their number.
  if (told === null || !/^[A-Za-z0-9+/]{43}=$/.test(told)) return undefined;
  return Buffer.from(told, "base64").toString("hex");
}

function wrongRange({ headers }: S3Answer, from: number): string | undefined {
  const told = /^bytes (\d+)-/.exec(headers.get("content-range") ?? "")?.[1];
  return told === undefined || Number(told) === from
    ? undefined
    : "it came from another byte on than was asked for";
}

function rootOf({ body }: S3Answer): XmlElement | undefined {
  const root = parseXml(Buffer.from(body).toString("utf8"));
  return root?.name === "ListBucketResult" ? root : undefined;
}

function pageOf(root: XmlElement, prefix: string, { headers }: S3Answer): ListPage {
  const isEncoded = textOf(root, "EncodingType") === "url";
  const nameOf = (element: XmlElement, name: string) => {
    const key = textOf(element, name) ?? "";
    const plain = isEncoded ? decodedKey(key) : key;
    return plain.startsWith(prefix) ? plain.slice(prefix.length) : "";
  };
  const objects: ListedObject[] = [];
  for (const element of childrenOf(root, "Contents")) {
    const name = nameOf(element, "Key");
    // Some tools make an object of the folder's own name.
    if (name === "" || name.includes("/")) continue;
    const bytes = Number(textOf(element, "Size") ?? Number.NaN);
    const modifiedMs = Date.parse(textOf(element, "LastModified") ?? "");
    if (Number.isSafeInteger(bytes) && !Number.isNaN(modifiedMs))
      objects.push({ name, bytes, modifiedMs });
  }
  const dateMs = Date.parse(headers.get("date") ?? "");
  const folders = childrenOf(root, "CommonPrefixes")
    .map((element) => nameOf(element, "Prefix").replace(/\/$/, ""))
    .filter((name) => name !== "");
  return { objects, folders, dateMs: Number.isNaN(dateMs) ? undefined : dateMs };
}

function decodedKey(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll("+", " "));
  } catch {
    return key;
  }
}
