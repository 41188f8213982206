import { createHash, createHmac } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { type CertificateFiles, tlsOptions } from "./tls.ts";

/** What a request asks for. */
export type S3Operation =
  "PUT" | "GET" | "LIST" | "DELETE" | "BEGIN" | "PART" | "COMPLETE" | "ABORT";

/** What happens to a request instead of what should. */
export type S3Effect =
  /** An error; `isXml` false: without S3's XML, as proxies answer. */
  | {
      readonly kind: "error";
      readonly status: number;
      readonly code: string;
      readonly message?: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly isXml?: false;
    }
  /** The connection stays open and nothing more comes: before the body is read, in place of an answer, or amid its body. */
  | { readonly kind: "hang"; readonly at: "request" | "answer" | "body" }
  /** The connection is cut: amid the request's body, after the work is done but before an answer, or amid its body. */
  | { readonly kind: "cut"; readonly at: "request" | "answer" | "body" }
  /** The answer names another SHA-256 than that of what is stored. */
  | { readonly kind: "wrong checksum" }
  /** A byte of the answer's body is changed. */
  | { readonly kind: "changed" };

export interface S3Fault {
  readonly operation?: S3Operation;
  /** Only requests whose key has this in it meet it. */
  readonly within?: string;
  /** How many matching requests meet it. Default: 1. */
  readonly times?: number;
  readonly effect: S3Effect;
}

/** A request as the server saw it. */
export interface SeenRequest {
  readonly operation: S3Operation;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
}

interface Stored {
  readonly bytes: Buffer;
  readonly atMs: number;
  readonly etag?: string;
}

interface Login {
  readonly secret: string;
  readonly token?: string;
  ended?: boolean;
}

class Refused extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly region: string | undefined;

  constructor(
    status: number,
    code: string,
    message: string,
    headers: Record<string, string> = {},
    region?: string,
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
    this.region = region;
  }
}

export const ACCESS_KEY = "AKIDEXAMPLE0123456789";
export const SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SKEW_MS = 15 * 60 * 1000;

/**
 * A small S3 server in memory: one bucket, path style. It checks every signature, condition and checksum, and does
 * what a fault says.
 */
export class FaultS3 {
  readonly bucket = "bucket";
  readonly objects = new Map<string, Stored>();
  readonly logins = new Map<string, Login>([[ACCESS_KEY, { secret: SECRET_KEY }]]);
  readonly seen: SeenRequest[] = [];
  region = "us-east-1";
  /** What a request that is signed for another region meets: S3 does either, Swift the second. */
  otherRegion: "redirect" | "malformed" = "redirect";
  /** Ceph and Swift keep no x-amz-checksum, and Ceph doesn't look at it either. */
  keepsChecksums = true;
  pageKeys = 1000;
  /** Its clock, milliseconds since 1970; undefined: it tells no date. */
  clock: () => number | undefined = () => Date.now();
  /** Some stores refuse If-None-Match. */
  knowsConditions = true;
  /** Uploads that were begun and not ended, by their ids: the parts by their numbers. */
  readonly uploads = new Map<
    string,
    { readonly key: string; readonly parts: Map<number, Buffer> }
  >();
  /** Some stores ignore a condition when an upload is completed. */
  heedsConditions = true;
  #begun = 0;
  /** Objects that a LIST doesn't show yet. */
  readonly unlisted = new Set<string>();
  /** How many requests hang. */
  hanging = 0;
  readonly #faults: { fault: S3Fault; left: number }[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #server: http.Server;
  readonly #isTls: boolean;

  private constructor(certificate: CertificateFiles | undefined) {
    const serve = (request: http.IncomingMessage, response: http.ServerResponse) =>
      void this.#serve(request, response);
    this.#isTls = certificate !== undefined;
    this.#server =
      certificate === undefined
        ? http.createServer(serve)
        : https.createServer(tlsOptions(certificate), serve);
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(certificate?: CertificateFiles): Promise<FaultS3> {
    const server = new FaultS3(certificate);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", () => resolve()));
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `${this.#isTls ? "https" : "http"}://127.0.0.1:${this.port}`;
  }

  fail(fault: S3Fault): void {
    this.#faults.push({ fault, left: fault.times ?? 1 });
  }

  heal(): void {
    this.#faults.length = 0;
  }

  count(operation: S3Operation): number {
    return this.seen.filter((request) => request.operation === operation).length;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #meet(operation: S3Operation, key: string): S3Effect | undefined {
    for (const entry of this.#faults) {
      const isMeant =
        (entry.fault.operation ?? operation) === operation &&
        key.includes(entry.fault.within ?? "");
      if (!isMeant || entry.left === 0) continue;
      entry.left--;
      return entry.fault.effect;
    }
    return undefined;
  }

  async #serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const [path = "", search = ""] = (request.url ?? "").split("?", 2);
    const key = decodeURIComponent(path).replace(/^\/[^/]*\/?/, "");
    const query = new URLSearchParams(search);
    const method = request.method ?? "";
    const operation = operationOf(method, query);
    const headers = request.headers as Record<string, string>;
    this.seen.push({ operation, key, headers });
    const effect = this.#meet(operation, key);
    const { socket } = request;
    try {
      if (effect?.kind === "hang" && effect.at === "request") return this.#hang();
      const body = await bodyOf(request, effect?.kind === "cut" && effect.at === "request");
      if (effect?.kind === "error" && effect.status >= 300) {
        return this.#refuse(response, effect, effect.isXml !== false);
      }
      this.#check(method, path, search, headers, body);
      const answer = this.#answer(operation, path, key, query, headers, body);
      this.#send(response, answer, effect);
    } catch (error) {
      if (error instanceof Refused) return this.#refuse(response, error, true);
      socket.destroy();
    }
  }

  #hang(): void {
    this.hanging++;
  }

  #refuse(
    response: http.ServerResponse,
    { status, code, message = "made by the test", headers = {}, region }: RefusalParts,
    isXml: boolean,
  ): void {
    response.writeHead(status, { ...headers, ...this.#date() });
    response.end(isXml ? errorXml(code, message, region) : message);
  }

  #send(
    response: http.ServerResponse,
    { status: meant = 200, headers = {}, body = Buffer.alloc(0) }: Answer,
    effect: S3Effect | undefined,
  ): void {
    if (effect?.kind === "hang" && effect.at === "answer") return this.#hang();
    if (effect?.kind === "cut" && effect.at === "answer") return void response.socket?.destroy();
    const status = effect?.kind === "error" ? effect.status : meant;
    let sent = body;
    if (effect?.kind === "error")
      sent = Buffer.from(errorXml(effect.code, effect.message ?? "made by the test"));
    if (effect?.kind === "changed") {
      sent = Buffer.from(body);
      sent[sent.length >> 1]! ^= 1;
    }
    const told: Record<string, string | number> = { ...headers, ...this.#date() };
    if (this.clock() === undefined) response.sendDate = false;
    if (effect?.kind === "wrong checksum")
      told["x-amz-checksum-sha256"] = sha256(Buffer.from("other")).toString("base64");
    if (status !== 204) told["content-length"] = sent.length;
    response.writeHead(status, told);
    const isBroken = (effect?.kind === "cut" || effect?.kind === "hang") && effect.at === "body";
    if (!isBroken) return void response.end(sent);
    response.write(sent.subarray(0, sent.length >> 1), () => {
      if (effect.kind === "hang") this.#hang();
      else response.socket?.destroy();
    });
  }

  #date(): Record<string, string> {
    const nowMs = this.clock();
    return nowMs === undefined ? {} : { date: new Date(nowMs).toUTCString() };
  }

  #answer(
    operation: S3Operation,
    path: string,
    key: string,
    query: URLSearchParams,
    headers: Record<string, string>,
    body: Buffer,
  ): Answer {
    if (path.split("/")[1] !== this.bucket)
      throw new Refused(404, "NoSuchBucket", "no such bucket");
    const stored = this.objects.get(key);
    switch (operation) {
      case "PUT": {
        const condition = headers["if-none-match"];
        if (!this.knowsConditions && condition !== undefined)
          throw new Refused(501, "NotImplemented", "a header that it does not know");
        if (this.knowsConditions && condition !== "*")
          throw new Refused(400, "InvalidRequest", "no condition");
        if (condition !== undefined && stored !== undefined)
          throw new Refused(412, "PreconditionFailed", "it is there");
        this.#checkChecksum(headers, body);
        this.objects.set(key, { bytes: body, atMs: this.clock() ?? Date.now() });
        return { headers: this.#checksum(body) };
      }
      case "BEGIN": {
        if (headers["x-amz-checksum-algorithm"] !== "SHA256")
          throw new Refused(400, "InvalidRequest", "parts with checksums of no known kind");
        const id = `upload+${++this.#begun}/=`;
        this.uploads.set(id, { key, parts: new Map() });
        const told = `<Bucket>bucket</Bucket><UploadId>${id}</UploadId>`;
        return { body: xmlOf("InitiateMultipartUploadResult", told) };
      }
      case "PART": {
        const number = Number(query.get("partNumber"));
        this.#upload(query, key).parts.set(number, body);
        return { headers: { ...checksum(body), etag: `"${md5(body)}"` } };
      }
      case "ABORT":
        this.#upload(query, key);
        this.uploads.delete(query.get("uploadId") ?? "");
        return { status: 204 };
      case "COMPLETE":
        return this.#complete(query, key, headers, String(body));
      case "DELETE":
        this.objects.delete(key);
        return { status: 204 };
      case "LIST":
        return {
          headers: { "content-type": "application/xml" },
          body: Buffer.from(this.#list(query)),
        };
      case "GET": {
        if (stored === undefined) throw new Refused(404, "NoSuchKey", "no such key");
        const range = /^bytes=(\d+)-(\d+)$/.exec(headers["range"] ?? "");
        const { etag } = stored;
        if (range === null) return { headers: this.#checksum(stored.bytes), body: stored.bytes };
        const [from, to] = [Number(range[1]), Math.min(Number(range[2]) + 1, stored.bytes.length)];
        if (from >= stored.bytes.length) throw new Refused(416, "InvalidRange", "no such range");
        const told = { "content-range": `bytes ${from}-${to - 1}/${stored.bytes.length}` };
        const headersOfPart = etag === undefined ? told : { ...told, etag };
        return { status: 206, headers: headersOfPart, body: stored.bytes.subarray(from, to) };
      }
    }
  }

  #upload(query: URLSearchParams, key: string) {
    const upload = this.uploads.get(query.get("uploadId") ?? "");
    if (upload?.key !== key) throw new Refused(404, "NoSuchUpload", "no such upload");
    return upload;
  }

  #complete(
    query: URLSearchParams,
    key: string,
    headers: Record<string, string>,
    body: string,
  ): Answer {
    const { parts } = this.#upload(query, key);
    const listed = [...body.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = ""]) => {
      const of = (name: string) => new RegExp(`<${name}>(.*?)</${name}>`).exec(part)?.[1] ?? "";
      return { number: Number(of("PartNumber")), tag: of("ETag"), sum: of("ChecksumSHA256") };
    });
    const bytes = listed.map(({ number, tag, sum }, index) => {
      const part = parts.get(number);
      const isSame =
        part !== undefined &&
        tag === `&quot;${md5(part)}&quot;` &&
        sum === sha256(part).toString("base64");
      if (!isSame || number !== index + 1) throw new Refused(400, "InvalidPart", "another part");
      if (index < listed.length - 1 && part.length < 5 * 1024 * 1024)
        throw new Refused(400, "EntityTooSmall", "a part that is too small");
      return part;
    });
    if (bytes.length === 0) throw new Refused(400, "MalformedXML", "no parts");
    if (!this.knowsConditions && headers["if-none-match"] !== undefined)
      throw new Refused(501, "NotImplemented", "a header that it does not know");
    if (this.heedsConditions && headers["if-none-match"] === "*" && this.objects.has(key))
      throw new Refused(412, "PreconditionFailed", "it is there");
    const tags = Buffer.concat(bytes.map((part) => Buffer.from(md5(part), "hex")));
    const etag = `"${md5(tags)}-${bytes.length}"`;
    this.objects.set(key, { bytes: Buffer.concat(bytes), atMs: Date.now(), etag });
    this.uploads.delete(query.get("uploadId") ?? "");
    return { body: xmlOf("CompleteMultipartUploadResult", `<ETag>${etag}</ETag>`) };
  }

  #list(query: URLSearchParams): string {
    const prefix = query.get("prefix") ?? "";
    const after = query.get("continuation-token");
    const names = new Set<string>();
    for (const key of [...this.objects.keys()].toSorted()) {
      if (!key.startsWith(prefix) || this.unlisted.has(key)) continue;
      const end = key.indexOf("/", prefix.length);
      names.add(end === -1 ? key : key.slice(0, end + 1));
    }
    // What was deleted since the page before doesn't shift this one.
    const last = after === null ? "" : Buffer.from(after, "base64").toString();
    const left = [...names].filter((name) => name > last);
    const page = left.slice(0, this.pageKeys);
    const isMore = page.length < left.length;
    const entries = page.map((name) => {
      const told = encodeURIComponent(name).replaceAll("%2F", "/").replaceAll("%20", "+");
      if (name.endsWith("/")) return `<CommonPrefixes><Prefix>${told}</Prefix></CommonPrefixes>`;
      const { bytes, atMs } = this.objects.get(name)!;
      return `<Contents><Key>${told}</Key><LastModified>${wholeSeconds(atMs)}</LastModified><ETag>&quot;${"0".repeat(32)}&quot;</ETag><Size>${bytes.length}</Size></Contents>`;
    });
    const token = Buffer.from(page.at(-1) ?? "").toString("base64");
    const next = isMore ? `<NextContinuationToken>${token}</NextContinuationToken>` : "";
    return `<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>${this.bucket}</Name><Prefix>${prefix}</Prefix><EncodingType>url</EncodingType><IsTruncated>${isMore}</IsTruncated>${next}${entries.join("")}</ListBucketResult>`;
  }

  /** Signature version 4, as Amazon describes it. */
  #check(
    method: string,
    path: string,
    search: string,
    headers: Record<string, string>,
    body: Buffer,
  ): void {
    const match =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
        headers["authorization"] ?? "",
      );
    if (match === null) throw new Refused(403, "AccessDenied", "not signed");
    const [, accessKey = "", day = "", region = "", signed = "", signature] = match;
    const login = this.logins.get(accessKey);
    if (login === undefined)
      throw new Refused(403, "InvalidAccessKeyId", `${accessKey} is unknown`);
    const at = headers["x-amz-date"] ?? "";
    checkTime(at, this.clock() ?? Date.now());
    this.#checkRegion(region);
    const names = signed.split(";");
    const unsigned = Object.keys(headers).filter(
      (name) => /^(?:host|content-|x-amz-|range|if-)/.test(name) && !names.includes(name),
    );
    if (unsigned.length > 0)
      throw new Refused(403, "AccessDenied", `not signed: ${unsigned.join()}`);
    const hash = headers["x-amz-content-sha256"] ?? "";
    const canonical = [
      method,
      path,
      search.split("&").toSorted().join("&"),
      ...names.map((name) => `${name}:${(headers[name] ?? "").trim()}`),
      "",
      signed,
      hash,
    ].join("\n");
    const toSign = [
      "AWS4-HMAC-SHA256",
      at,
      `${day}/${region}/s3/aws4_request`,
      sha256(canonical).toString("hex"),
    ];
    const key = [day, region, "s3", "aws4_request"].reduce(
      (key: Buffer | string, part) => hmac(key, part),
      `AWS4${login.secret}`,
    );
    if (hmac(key, toSign.join("\n")).toString("hex") !== signature) {
      throw new Refused(
        403,
        "SignatureDoesNotMatch",
        `the signature of ${accessKey} by ${login.secret} is ${signature}`,
      );
    }
    if (login.token !== headers["x-amz-security-token"])
      throw new Refused(403, "InvalidToken", "another token");
    if (login.ended === true) throw new Refused(400, "ExpiredToken", "the token has expired");
    if (hash !== sha256(body).toString("hex"))
      throw new Refused(400, "XAmzContentSHA256Mismatch", "another body");
  }

  #checkRegion(region: string): void {
    if (region === this.region) return;
    if (this.otherRegion === "malformed") {
      const message = `the region '${region}' is wrong; expecting '${this.region}'`;
      throw new Refused(400, "AuthorizationHeaderMalformed", message, {}, this.region);
    }
    const told = { "x-amz-bucket-region": this.region };
    throw new Refused(301, "PermanentRedirect", "another region", told);
  }

  #checkChecksum(headers: Record<string, string>, body: Buffer): void {
    const told = headers["x-amz-checksum-sha256"];
    if (!this.keepsChecksums || told === undefined) return;
    if (told !== sha256(body).toString("base64"))
      throw new Refused(400, "BadDigest", "another body");
  }

  #checksum(bytes: Buffer): Record<string, string> {
    return this.keepsChecksums ? { "x-amz-checksum-sha256": sha256(bytes).toString("base64") } : {};
  }
}

/** Real servers look at the time first, whatever the signature is. */
function checkTime(at: string, nowMs: number): void {
  const time = Date.parse(
    at.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"),
  );
  if (!(Math.abs(time - nowMs) <= SKEW_MS))
    throw new Refused(403, "RequestTimeTooSkewed", "the times differ");
}

function wholeSeconds(ms: number): string {
  return new Date(Math.floor(ms / 1000) * 1000).toISOString();
}

interface RefusalParts {
  readonly status: number;
  readonly code: string;
  readonly message?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly region?: string | undefined;
}

interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

/** The whole body. @throws Error where it is to be cut amid it. */
async function bodyOf(request: http.IncomingMessage, isCut: boolean): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
    if (isCut) throw new Error("cut amid the request");
  }
  if (isCut) throw new Error("cut after the request");
  return Buffer.concat(chunks);
}

function errorXml(code: string, message: string, region?: string): string {
  const told = region === undefined ? "" : `<Region>${region}</Region>`;
  const text = message.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${text}</Message><RequestId>1</RequestId>${told}</Error>`;
}

function operationOf(method: string, query: URLSearchParams): S3Operation {
  if (query.has("list-type")) return "LIST";
  if (method === "POST") return query.has("uploads") ? "BEGIN" : "COMPLETE";
  if (query.has("uploadId")) return method === "PUT" ? "PART" : "ABORT";
  return method as S3Operation;
}

function xmlOf(name: string, inside: string): Buffer {
  return Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n<${name}>${inside}</${name}>`);
}

function md5(bytes: Buffer): string {
  return createHash("md5").update(bytes).digest("hex");
}

function checksum(bytes: Buffer): Record<string, string> {
  return { "x-amz-checksum-sha256": sha256(bytes).toString("base64") };
}

function sha256(bytes: Buffer | string): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
