import { usageError } from "../../base/errors.ts";
import { printable } from "../../base/printable.ts";

/** Where a bucket's server is, as settings say it. */
export interface S3Place {
  /** `https://host:port` of a server that speaks S3; undefined: Amazon's. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
}

/** The region that a request is signed for where nobody names one: that of Amazon's, and what most other servers take. */
const DEFAULT_REGION = "us-east-1";

/** Amazon's rule; other servers take older and longer names. */
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const OLDER_BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{2,254}$/;

/** A bucket and the folder in it: `s3://bucket/prefix`, and the HTTP URLs of what lies there. */
export class S3Address {
  readonly bucket: string;
  /** The key of the archive's root: "", or a path with a slash at its end. */
  readonly prefix: string;
  /** The region that was named; else the default one until the server tells another. */
  region: string;
  readonly #endpoint: URL | undefined;

  /**
   * @param url `s3://bucket/prefix`.
   * @param environment where the endpoint and the region are named that `place` doesn't name, as for every S3 tool:
   * AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION.
   * @throws ReplicaError USAGE.
   */
  constructor(
    url: string,
    place: S3Place,
    environment: Readonly<Record<string, string | undefined>>,
  ) {
    // A login there would be a secret, and what isn't understood is shown.
    if (url.includes("@")) {
      throw usageError(
        "the URL of an archive has no login: s3://bucket/prefix, and keys in the environment",
      );
    }
    const match = /^s3:\/\/([^/?#@]+)(?:\/([^?#]*))?$/.exec(url);
    if (match === null) {
      // What follows a question mark may be a secret.
      throw usageError(
        `"${printable(url.replace(/[?#].*$/s, "…"))}" is not of the form s3://bucket/prefix`,
      );
    }
    const [, bucket = "", path = ""] = match;
    const named = (...names: string[]) =>
      names.map((name) => environment[name]).find((value) => value !== undefined && value !== "");
    const endpoint = place.endpoint ?? named("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
    this.#endpoint = endpoint === undefined ? undefined : parseEndpoint(endpoint);
    this.region = place.region ?? named("AWS_REGION", "AWS_DEFAULT_REGION") ?? DEFAULT_REGION;
    if (!/^[\w-]{1,64}$/.test(this.region))
      throw usageError(`"${printable(this.region)}" is no region's name`);
    if (!BUCKET.test(bucket) && !(endpoint !== undefined && OLDER_BUCKET.test(bucket))) {
      throw usageError(`"${printable(bucket)}" is no bucket's name`);
    }
    const parts = path.replace(/\/+$/, "").split("/");
    this.bucket = bucket;
    this.prefix = path === "" ? "" : `${parts.join("/")}/`;
    if (path !== "" && parts.some((part) => part === "" || part === "." || part === "..")) {
      throw usageError(`"${printable(url)}" has an empty part, or one of dots, in its path`);
    }
  }

  /** What people call it. */
  get url(): string {
    return `s3://${this.bucket}/${this.prefix.slice(0, -1)}`.replace(/\/$/, "");
  }

  /** The server, for messages. */
  get server(): string {
    return this.#endpoint?.host ?? this.#amazon();
  }

  get isEncrypted(): boolean {
    return this.#endpoint?.protocol !== "http:";
  }

  #amazon(): string {
    return `s3.${this.region}.amazonaws.com${this.region.startsWith("cn-") ? ".cn" : ""}`;
  }

  /**
   * The URL of an object, or of the bucket where `key` is "".
   * @param key a whole key, the prefix included.
   */
  urlOf(key: string, query: Readonly<Record<string, string>> = {}): URL {
    const path = key.split("/").map(encoded).join("/");
    // Amazon's certificate covers no bucket with dots in its name.
    const isPath = this.#endpoint !== undefined || this.bucket.includes(".");
    const base =
      this.#endpoint?.href.replace(/\/$/, "") ??
      `https://${isPath ? "" : `${this.bucket}.`}${this.#amazon()}`;
    const url = new URL(isPath ? `${base}/${this.bucket}/${path}` : `${base}/${path}`);
    // Without a key, path style has no slash at the end.
    if (isPath && key === "") url.pathname = url.pathname.replace(/\/$/, "");
    url.search = Object.entries(query)
      .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
      .join("&");
    return url;
  }
}

function parseEndpoint(text: string): URL {
  const url = URL.parse(text);
  const isPlain =
    url?.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (url === null || !isPlain || !/^https?:$/.test(url.protocol)) {
    throw usageError(
      "the endpoint of an archive is of the form https://host:port, without a login",
    );
  }
  return url;
}

/** As the signature wants it: everything but letters, digits and -._~ by its bytes. */
function encoded(part: string): string {
  return encodeURIComponent(part).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
