import { isIP } from "node:net";

/** A host (a name, or an address without brackets) and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, as it stands in a URL. */
export function describeAddress({ host, port }: Address): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}
