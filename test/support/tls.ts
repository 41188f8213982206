import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The files of a certificate; certs/README.md explains each. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

const folder = join(import.meta.dir, "certs");

function pair(name: string): CertificateFiles {
  return { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
}

/** Paths of the test certificates: fixed, valid until 2126. */
export const certificates = {
  ca: join(folder, "ca.crt"),
  foreignCa: join(folder, "foreign-ca.crt"),
  /** For localhost, 127.0.0.1 and ::1. */
  server: pair("server"),
  client: pair("client"),
  /** Signed by `ca`, for another host. */
  wrongHost: pair("wrong-host"),
  /** Signed by `ca`, expired in 2020. */
  expired: pair("expired"),
  foreignServer: pair("foreign-server"),
  foreignClient: pair("foreign-client"),
} as const;

/** A certificate as Bun's `tls` options. */
export function tlsOptions(files: CertificateFiles, ca: string = certificates.ca) {
  return {
    cert: readFileSync(files.cert, "utf8"),
    key: readFileSync(files.key, "utf8"),
    ca: readFileSync(ca, "utf8"),
  };
}
