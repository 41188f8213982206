import type { Setting } from "./setting.ts";
import { path } from "./setting-values.ts";

const file = {
  group: "security",
  kind: "text",
  value: "FILE",
  takes: "the path of a file",
  completes: "file",
  unset: "none",
} as const;

/** The settings of TLS on this program's own ports; rows of `settingsSchema`. */
export const servedTlsSchema = {
  "port-tls-cert": {
    ...file,
    help: "the certificate (PEM, with its chain) for TLS on --port, which then takes nothing else; needs --port-tls-key",
    schema: path(),
  },
  "port-tls-key": {
    ...file,
    help: "the private key (PEM) of --port-tls-cert",
    schema: path(),
  },
  "port-tls-ca": {
    ...file,
    unset: "clients need none",
    help: "the CA certificates (PEM) one of which must have signed the certificate of each client of --port",
    schema: path(),
  },
  "http-tls-cert": {
    ...file,
    help: "the certificate (PEM, with its chain) for TLS on --http, which then takes nothing else; needs --http-tls-key",
    schema: path(),
  },
  "http-tls-key": {
    ...file,
    help: "the private key (PEM) of --http-tls-cert",
    schema: path(),
  },
  "http-tls-ca": {
    ...file,
    unset: "clients need none",
    help: "the CA certificates (PEM) one of which must have signed the certificate of each client of --http",
    schema: path(),
  },
} satisfies Record<string, Setting>;
