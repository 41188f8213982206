import { ReplicaError } from "../../base/errors.ts";
import { printable, withoutSecret } from "../../base/printable.ts";
import { formatAge } from "../../base/quantity.ts";
import type { Credentials } from "./credentials.ts";
import type { S3Address } from "./s3-address.ts";
import type { S3Answer } from "./s3-transport.ts";
import { parseXml, textOf } from "./xml.ts";

/** An answer that is an error. */
export interface Refusal {
  readonly status: number;
  /** S3's own word for it, such as SlowDown; "" where the answer has none. */
  readonly code: string;
  readonly message: string;
  /** The bucket's region, where the answer tells it. */
  readonly region: string | undefined;
  /** The server's clock; milliseconds since 1970. */
  readonly dateMs: number | undefined;
}

/** What to do about a refusal. */
export type Verdict = "try again" | "renew credentials" | "other region" | "give up";

/** What is done with an object or a folder, for messages, and the right that it takes. */
export interface Doing {
  readonly verb: "storing" | "reading" | "listing" | "deleting" | "aborting";
  readonly place: string;
}

/** The longest error of a server that a message quotes. */
const MAX_QUOTED = 200;

const TRANSIENT_STATUS = new Set([409, 429, 500, 502, 503, 504]);
/** S3 says it with 400: the body came too slowly. */
const TRANSIENT_CODE = new Set(["RequestTimeout"]);
const ENDED_CREDENTIALS = new Set([
  "ExpiredToken",
  "ExpiredTokenException",
  "TokenRefreshRequired",
]);
const OTHER_REGION = new Set([
  "PermanentRedirect",
  "TemporaryRedirect",
  "Redirect",
  "AuthorizationHeaderMalformed",
  "IllegalLocationConstraintException",
]);

const RIGHTS: Readonly<Record<Doing["verb"], string>> = {
  storing: "s3:PutObject",
  // Without the second, S3 denies access to what isn't there.
  reading: "s3:GetObject and s3:ListBucket",
  listing: "s3:ListBucket",
  deleting: "s3:DeleteObject",
  aborting: "s3:AbortMultipartUpload",
};

/** Reads the error in an answer; undefined where it is a success. A store may answer 200 and tell the error behind it. */
export function refusalOf({ status, headers, body }: S3Answer): Refusal | undefined {
  const isSuccess = status >= 200 && status < 300;
  // Nothing of ours begins so.
  const xml = body[0] === 0x3c ? parseXml(Buffer.from(body).toString("utf8")) : undefined;
  if (isSuccess && xml?.name !== "Error") return undefined;
  const date = Date.parse(headers.get("date") ?? "");
  return {
    status,
    code: textOf(xml, "Code") ?? "",
    message:
      textOf(xml, "Message") ??
      (xml === undefined ? Buffer.from(body.subarray(0, MAX_QUOTED)).toString("latin1") : ""),
    region: headers.get("x-amz-bucket-region") ?? textOf(xml, "Region"),
    dateMs: Number.isNaN(date) ? undefined : date,
  };
}

export function verdictOf({ status, code, region }: Refusal): Verdict {
  if (status < 300 || TRANSIENT_STATUS.has(status) || TRANSIENT_CODE.has(code)) return "try again";
  if (ENDED_CREDENTIALS.has(code)) return "renew credentials";
  const isRedirect = status === 301 || status === 302 || status === 307 || status === 308;
  if (region !== undefined && (isRedirect || OTHER_REGION.has(code))) return "other region";
  return "give up";
}

/** What the server said, in one clause without secrets: `503 SlowDown "Please reduce your request rate."`. */
export function saidBy({ status, code, message }: Refusal, credentials: Credentials): string {
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const text = printable(message.replaceAll(/\s+/g, " ").trim());
  const safe = [secretAccessKey, sessionToken, accessKeyId].reduce<string>(withoutSecret, text);
  const quoted = safe.length > MAX_QUOTED ? `${safe.slice(0, MAX_QUOTED)}…` : safe;
  const name = code === "" ? "" : ` ${printable(code).slice(0, 60)}`;
  return `${status}${name}${quoted === "" ? "" : ` "${quoted}"`}`;
}

/**
 * The error for a refusal that another try won't change, and what to do about it.
 * @param nowMs this machine's clock, milliseconds since 1970.
 */
export function errorOf(
  refusal: Refusal,
  { verb, place }: Doing,
  address: S3Address,
  credentials: Credentials,
  nowMs: number,
): ReplicaError {
  const said = saidBy(refusal, credentials);
  const failed = (why: string) =>
    new ReplicaError("ARCHIVE_FAILED", {
      retry: "never",
      message: `${verb} ${place}: ${why} (${said})`,
    });
  const forbidden = (why: string) =>
    new ReplicaError("ARCHIVE_FORBIDDEN", {
      retry: "never",
      message: `${verb} ${place}: ${why} (${said})`,
    });
  switch (refusal.code) {
    case "NoSuchBucket":
      return failed(
        `the bucket "${address.bucket}" does not exist at ${address.server}: create it, or correct its name`,
      );
    case "RequestTimeTooSkewed":
      return forbidden(
        `the store refuses requests by this machine's clock, ${skewOf(refusal, nowMs)}: set the clock`,
      );
    case "InvalidAccessKeyId":
      return forbidden(
        "the store does not know this access key: check AWS_ACCESS_KEY_ID, the endpoint and the profile",
      );
    case "SignatureDoesNotMatch":
      // Swift says so of an access key that it does not know, too.
      return forbidden(
        "the secret key does not fit the access key: check AWS_SECRET_ACCESS_KEY and AWS_ACCESS_KEY_ID",
      );
    case "InvalidToken":
    case "ExpiredToken":
    case "ExpiredTokenException":
    case "TokenRefreshRequired":
      return forbidden("the session's credentials have ended or are wrong: fetch new ones");
  }
  if (isPlainOnTls(refusal)) return failed("it speaks TLS there: name the endpoint with https://");
  if (refusal.status === 401 || refusal.status === 403) {
    return forbidden(`access is denied: grant ${RIGHTS[verb]} to this access key`);
  }
  if (verdictOf(refusal) === "other region" || (refusal.status >= 300 && refusal.status < 400)) {
    const told =
      refusal.region === undefined ? "its own" : `"${printable(refusal.region).slice(0, 64)}"`;
    return failed(
      `the bucket is in another region than "${address.region}": name ${told} as the region`,
    );
  }
  return failed("the store refuses it");
}

/** How far this machine's clock is from the store's. */
function skewOf({ dateMs }: Refusal, nowMs: number): string {
  if (dateMs === undefined) return "which differs from its own by more than 15 minutes";
  // The store tells its time in seconds, and refuses from 15 minutes on.
  const minutes = Math.round((nowMs - dateMs) / 60_000);
  return `which is ${formatAge(Math.abs(minutes) * 60)} ${minutes < 0 ? "behind" : "ahead of"} the store's`;
}

function isPlainOnTls({ status, message }: Refusal): boolean {
  return status === 400 && /plain HTTP request|HTTP request to an HTTPS|TLS/i.test(message);
}
