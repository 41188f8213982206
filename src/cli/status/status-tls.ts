import { readFileSync } from "node:fs";
import type { Socket } from "bun";
import type { Address } from "../../base/address.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import type { Settings } from "../../config/settings.ts";

type TlsSettings = Pick<Settings, "tls" | "portTls">;

/** TLS to a replica's port: whether it is the right one, and what it is shown. */
export class StatusTls {
  readonly #settings: TlsSettings;
  readonly #address: Address;

  constructor(settings: TlsSettings, address: Address) {
    this.#settings = settings;
    this.#address = address;
  }

  /** For Bun.connect; `verify` decides. @throws ReplicaError USAGE for a file that can't be read. */
  get options() {
    const { tls, portTls } = this.#settings;
    // Redis, too, shows its own certificate where it has no other ("redis.conf, tls-client-cert-file").
    const own = portTls?.asksClients === true ? portTls.files : { cert: undefined, key: undefined };
    const cert = tls.certFile ?? own.cert;
    const key = tls.certFile === undefined ? own.key : tls.keyFile;
    const given = { ca: read(tls.caFile), cert: read(cert), key: read(key) };
    const files = Object.fromEntries(Object.entries(given).filter(([, text]) => text));
    const serverName = tls.serverName ?? this.#address.host;
    return { ...files, serverName, rejectUnauthorized: false };
  }

  /**
   * Whether this is who is to be asked: it shows the certificate that its own settings name, or one that is valid.
   * @returns the error if not.
   */
  verify(
    at: string,
    socket: Socket,
    success: boolean,
    failure: Error | null,
  ): ReplicaError | undefined {
    const shown = socket.getPeerX509Certificate()?.fingerprint256;
    const { tls, portTls } = this.#settings;
    if (shown !== undefined && (tls.insecure || failure === null)) return undefined;
    if (shown === undefined || portTls === undefined) {
      return this.refusal(at, failure) ?? failed(at, success ? "it shows no certificate" : "");
    }
    if (shown === fingerprintIn(portTls.files.cert)) return undefined;
    return new ReplicaError("TLS_FAILED", {
      retry: "never",
      message: `${at} shows another certificate than ${portTls.files.cert} holds: send the replica SIGHUP if that one is new, or name its CA with --tls-ca`,
      cause: failure,
    });
  }

  /** What the TLS library has against the connection; undefined for what isn't about TLS. */
  refusal(at: string, cause: unknown): ReplicaError | undefined {
    if (!(cause instanceof Error) || !/SSL routines|TLS|certificate/.test(cause.message)) {
      return undefined;
    }
    if (/WRONG_VERSION_NUMBER|disconnected before secure/.test(cause.message)) {
      return failed(at, "it doesn't speak it: leave out rediss:// and --port-tls-cert", cause);
    }
    if (/CERTIFICATE_REQUIRED/.test(cause.message)) {
      return failed(at, "it asks for a certificate: give --tls-cert and --tls-key", cause);
    }
    return failed(
      at,
      `${cause.message}; check --tls-ca, --tls-server-name, --tls-cert and --tls-key`,
      cause,
    );
  }
}

function failed(at: string, why: string, cause?: unknown): ReplicaError {
  const message = `no TLS with ${at}: ${why || "the handshake failed; see the replica's log"}`;
  return new ReplicaError("TLS_FAILED", { retry: "never", message, cause });
}

function read(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, "latin1");
  } catch (cause) {
    throw usageError(`can't read ${file}: whoever asks for the status must be allowed to`, cause);
  }
}

function fingerprintIn(file: string): string | undefined {
  const { X509Certificate } = process.getBuiltinModule("node:crypto");
  try {
    return new X509Certificate(read(file) ?? "").fingerprint256;
  } catch {
    return undefined;
  }
}
