import { AwsV4Signer } from "aws4fetch";
import type { Clock } from "../../base/clock.ts";
import { giveBack } from "../../store/disk/disk.ts";
import type { Credentials } from "./credentials.ts";
import { objectBuffer, recycle } from "./object-buffers.ts";
import type { S3Address } from "./s3-address.ts";
import { Watchdog } from "./watchdog.ts";

export interface S3Request {
  readonly method: "PUT" | "GET" | "POST" | "DELETE";
  /** The whole key, prefix included; "" for the bucket itself. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: RequestBody;
  /** The most bytes of an answer that succeeds. */
  readonly maxBytes: number;
}

export interface RequestBody {
  readonly bytes: Uint8Array;
  readonly sha256: Buffer;
  /** False where it only tells what to do: then its checksum is no object's. */
  readonly isObject?: false;
}

export interface S3Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
  /** The answer was longer than `maxBytes`, and so not read to its end. */
  readonly isCut: boolean;
}

/** No answer, or half of one. `why` is a clause for people; only what is transient is worth another try. */
export interface Broken {
  readonly why: string;
  readonly isTransient: boolean;
  readonly cause: unknown;
}

/** How long a request may make no progress: a busy server takes seconds to answer a large upload. */
const SILENCE_MS = 30_000;
/** What the body is sent in: each piece that is taken counts as progress. */
const PIECE_BYTES = 256 * 1024;
/** The longest error that is read. */
const ERROR_BYTES = 64 * 1024;

/** The SHA-256 of no bytes. */
const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** Sends one request, signed for this moment, and reads its answer. It tries once. */
export class S3Transport {
  readonly #address: S3Address;
  readonly #clock: Clock;
  readonly #ca: string | undefined;

  /** @param ca certificates that are trusted in place of the usual ones, as PEM; undefined: the usual ones. */
  constructor(address: S3Address, clock: Clock, ca: string | undefined) {
    this.#address = address;
    this.#clock = clock;
    this.#ca = ca;
  }

  /** @throws the reason of `signal`, once that aborts. */
  async send(
    request: S3Request,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<S3Answer | Broken> {
    const { url, headers } = await this.#signed(request, credentials);
    const watchdog = new Watchdog(this.#clock, SILENCE_MS, signal);
    const upload = request.body && new Upload(request.body.bytes, watchdog);
    try {
      const response = await fetch(url, {
        method: request.method,
        headers,
        signal: watchdog.signal,
        // Another server would get what was signed for this one.
        redirect: "manual",
        decompress: false,
        ...(upload === undefined ? {} : { body: upload.stream }),
        ...(this.#ca === undefined ? {} : { tls: { ca: this.#ca } }),
      });
      watchdog.feed();
      return await answerOf(response, request.maxBytes, watchdog);
    } catch (cause) {
      signal.throwIfAborted();
      if (!watchdog.isHung) return brokenBy(cause, this.#address);
      const why = `it made no progress for ${SILENCE_MS / 1000} s`;
      return { why, isTransient: true, cause };
    } finally {
      upload?.end();
      watchdog.end();
    }
  }

  async #signed(
    { method, key, query, headers, body }: S3Request,
    { accessKeyId, secretAccessKey, sessionToken }: Credentials,
  ): Promise<{ url: string; headers: Headers }> {
    const sums: Record<string, string> = { "x-amz-content-sha256": EMPTY_SHA256 };
    // Bun sends it with every DELETE, and what is sent must be signed.
    if (method !== "GET") sums["content-length"] = "0";
    if (body !== undefined) {
      sums["content-length"] = String(body.bytes.length);
      sums["x-amz-content-sha256"] = body.sha256.toString("hex");
      if (body.isObject !== false) sums["x-amz-checksum-sha256"] = body.sha256.toString("base64");
    }
    const url = this.#address.urlOf(key, query).href;
    const signer = new AwsV4Signer({
      method,
      url,
      headers: { ...headers, ...sums },
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === undefined ? {} : { sessionToken }),
      service: "s3",
      region: this.#address.region,
      datetime: new Date(this.#clock.now()).toISOString().replaceAll(/[:-]|\.\d{3}/g, ""),
      // Ceph takes no header that it could sign and that isn't signed.
      allHeaders: true,
    });
    const signed = (await signer.sign()).headers;
    // Not signed, because proxies and some stores change it on the way.
    signed.set("accept-encoding", "identity");
    return { url, headers: signed };
  }
}

/**
 * A body in pieces: a stream shows how far an upload has come. A Blob would bring a header that isn't signed. Once it is
 * ended, nothing reads the bytes: a request that was given up may still ask for more, when they are another object's.
 */
class Upload {
  readonly stream: ReadableStream<Uint8Array>;
  #left: Uint8Array | undefined;

  constructor(bytes: Uint8Array, watchdog: Watchdog) {
    this.#left = bytes;
    this.stream = new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          if (this.#left === undefined) return controller.error(new Error("the request is over"));
          watchdog.feed();
          if (this.#left.length === 0) return controller.close();
          controller.enqueue(this.#left.subarray(0, PIECE_BYTES));
          this.#left = this.#left.subarray(PIECE_BYTES);
        },
      },
      { highWaterMark: 0 },
    );
  }

  end(): void {
    this.#left = undefined;
  }
}

async function answerOf(
  response: Response,
  maxBytes: number,
  watchdog: Watchdog,
): Promise<S3Answer> {
  const { status, headers } = response;
  const most = response.ok ? maxBytes : ERROR_BYTES;
  // An error may come in place of an object that is shorter.
  const limit = Math.max(most, ERROR_BYTES);
  const said = Number(headers.get("content-length") ?? Number.NaN);
  if (said > limit) {
    await response.body?.cancel();
    return { status, headers, body: new Uint8Array(0), isCut: true };
  }
  // Room is made for what is said to come, and for more only as it comes.
  let body = objectBuffer(Number.isNaN(said) ? 0 : said);
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    watchdog.feed();
    const end = bytes + chunk.length;
    if (end > limit) {
      recycle(body);
      return { status, headers, body: new Uint8Array(0), isCut: true };
    }
    if (end > body.length) body = grown(body, bytes, Math.min(limit, Math.max(end, 2 * bytes)));
    body.set(chunk, bytes);
    giveBack(chunk);
    bytes = end;
  }
  if (said > bytes) throw Object.assign(new Error("cut short"), { code: "ECONNRESET" });
  return { status, headers, body: body.subarray(0, bytes), isCut: bytes > most };
}

/** A larger buffer, with the first `bytes` of a smaller one, which is given back. */
function grown(small: Uint8Array, bytes: number, size: number): Uint8Array<ArrayBuffer> {
  const large = objectBuffer(size);
  large.set(small.subarray(0, bytes));
  recycle(small);
  return large;
}

const NO_TLS = "it does not speak TLS there: name the endpoint with http://, or another port";
const UNTRUSTED = "its certificate is not trusted: name the CA's file in AWS_CA_BUNDLE";
const ENDED = "the connection was cut";

/** What a failed connection means, and whether it may work in a moment. */
const CAUSES: Readonly<Record<string, readonly [why: string, isTransient: boolean]>> = {
  ECONNREFUSED: ["nothing listens there", true],
  ENOTFOUND: ["no host of that name is known", true],
  EAI_AGAIN: ["the name server does not answer", true],
  ENETUNREACH: ["the network can't be reached", true],
  EHOSTUNREACH: ["the host can't be reached", true],
  ETIMEDOUT: ["no connection within the system's time", true],
  ECONNRESET: [ENDED, true],
  ECONNABORTED: [ENDED, true],
  EPIPE: [ENDED, true],
  EPROTO: [NO_TLS, false],
  ERR_SSL_WRONG_VERSION_NUMBER: [NO_TLS, false],
  CERT_HAS_EXPIRED: ["its certificate has expired", false],
  ERR_TLS_CERT_ALTNAME_INVALID: ["its certificate is for another host", false],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: [UNTRUSTED, false],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: [UNTRUSTED, false],
  UNABLE_TO_GET_ISSUER_CERT: [UNTRUSTED, false],
  SELF_SIGNED_CERT_IN_CHAIN: [UNTRUSTED, false],
  DEPTH_ZERO_SELF_SIGNED_CERT: [UNTRUSTED, false],
};

function brokenBy(cause: unknown, { isEncrypted }: S3Address): Broken {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const known = CAUSES[code];
  // Neither the URL nor a header is in the messages of other errors; these are Bun's own words.
  if (known === undefined)
    return { why: `the request failed (${code || "unknown"})`, isTransient: true, cause };
  const [why, isTransient] = known;
  const hint =
    why === ENDED && !isEncrypted ? ": if it speaks TLS, name the endpoint with https://" : "";
  return { why: `${why}${hint}`, isTransient, cause };
}
