import { isIP } from "node:net";

/** A host (a name, or an IP address without brackets) and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Formats an address as `host:port`, as in a URL: IPv6 in brackets. */
export function describeAddress({ host, port }: Address): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
