import { statSync } from "node:fs";
import { usageError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import { limits } from "./limits.ts";
import { readSmallFile } from "./read-file.ts";

/** What is served by a certificate: `--port`, or `--http`. */
export type ServedBy = "port" | "http";

export interface ServedTlsFiles {
  readonly cert: string;
  readonly key: string;
  /** Who must have signed the clients' certificates; undefined: clients need none. */
  readonly ca: string | undefined;
}

/** What Bun.listen and Bun.serve take as `tls`. Both refuse what is older than TLS 1.2. */
export interface ServedTlsOptions {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

/** The certificate that a port of this program shows, and whose clients it takes. */
export class ServedTls {
  readonly files: ServedTlsFiles;
  readonly #by: ServedBy;
  readonly #renewed = new Set<() => void>();
  #options: ServedTlsOptions | undefined;

  /** Reads nothing yet. */
  constructor(by: ServedBy, files: ServedTlsFiles) {
    this.#by = by;
    this.files = files;
  }

  /** The files as they were read last: first now. @throws ReplicaError USAGE if they can't be used. */
  get options(): ServedTlsOptions {
    return (this.#options ??= this.#read());
  }

  /** Whether a client needs a certificate. */
  get asksClients(): boolean {
    return this.files.ca !== undefined;
  }

  /**
   * Reads the files anew, for the connections that come from now on.
   * @throws ReplicaError USAGE if they can't be used; what was read before then stays in use.
   */
  renew(): void {
    this.#options = this.#read();
    for (const tell of this.#renewed) tell();
  }

  /** Calls `tell` after each renewal. @returns a function that ends that. */
  onRenewed(tell: () => void): () => void {
    this.#renewed.add(tell);
    return () => void this.#renewed.delete(tell);
  }

  #read(): ServedTlsOptions {
    const [cert, key] = [this.#text("cert", this.files.cert), this.#text("key", this.files.key)];
    const ca = this.files.ca === undefined ? undefined : this.#text("ca", this.files.ca);
    this.#refuse(cert, key, ca);
    // Node's name for it: without a CA of clients, none is asked for a certificate.
    const asked = { requestCert: ca !== undefined, rejectUnauthorized: ca !== undefined };
    return { cert, key, ...(ca === undefined ? {} : { ca }), ...asked };
  }

  #flag(part: keyof ServedTlsFiles): string {
    return `--${this.#by}-tls-${part}`;
  }

  #text(part: keyof ServedTlsFiles, name: string): string {
    if (statSync(name, { throwIfNoEntry: false })?.isFile() === false) {
      throw usageError(
        `${this.#flag(part)}: ${name} is not a regular file; it is read again at SIGHUP`,
      );
    }
    // Comments between certificates may be in any encoding.
    return readSmallFile(name, limits.tlsFileBytes, this.#flag(part)).toString("latin1");
  }

  /** @throws ReplicaError USAGE. The message never quotes a file. */
  #refuse(cert: string, key: string, ca: string | undefined): void {
    const { createPrivateKey, X509Certificate } = process.getBuiltinModule("node:crypto");
    const certificate = this.#parsed("cert", "certificate", () => new X509Certificate(cert));
    const privateKey = this.#parsed("key", "unencrypted private key", () => createPrivateKey(key));
    if (ca !== undefined) this.#parsed("ca", "certificate", () => new X509Certificate(ca));
    if (!certificate.checkPrivateKey(privateKey)) {
      throw usageError(
        `${this.#flag("key")}: ${this.files.key} is not the key of the certificate in ${this.files.cert}: give the two that belong together`,
      );
    }
    try {
      // Whatever else the TLS library has against them, such as a key that is too short.
      process
        .getBuiltinModule("node:tls")
        .createSecureContext({ cert, key, ...(ca === undefined ? {} : { ca }) });
    } catch (cause) {
      throw usageError(
        `${this.#flag("cert")}: ${this.files.cert} and its key can't be used for TLS: make new ones`,
        cause,
      );
    }
    this.#warn(Date.parse(certificate.validTo));
  }

  #parsed<T>(part: keyof ServedTlsFiles, what: string, parse: () => T): T {
    try {
      return parse();
    } catch (cause) {
      throw usageError(
        `${this.#flag(part)}: ${this.files[part] ?? "the file"} contains no ${what} in PEM format`,
        cause,
      );
    }
  }

  #warn(expiresAtMs: number): void {
    const { cert, key } = this.files;
    if (expiresAtMs < Date.now()) {
      const at = new Date(expiresAtMs).toISOString();
      logger.warn(
        `${this.#flag("cert")}: ${cert} has expired (${at}), and clients refuse it: put a new one there and send SIGHUP`,
      );
    }
    const mode = statSync(key, { throwIfNoEntry: false })?.mode ?? 0;
    if ((mode & 0o004) !== 0) {
      logger.warn(
        `${this.#flag("key")}: every user of this machine can read ${key}: chmod o= ${key}`,
      );
    }
  }
}
