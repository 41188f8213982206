import type * as zod from "zod/mini";

/** A host (a name, or an IP address without brackets) and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Formats an address as `host:port`, as in a URL: IPv6 in brackets. */
export function describeAddress({ host, port }: Address): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** What an address consists of, with the interface that an IPv6 one is reached by (RFC 4007). */
const like = /^[\da-f:.]+(?:%[\da-z.:-]+)?$/i;
/** The last two groups of an IPv6 address may be written as an IPv4 one. */
const tail = /:([\d.]+)$/;

/**
 * Whether the text is an IPv4 address (4), an IPv6 one (6) or neither (0), as `isIP` of node:net, which brings Node's
 * streams with it: they take longer to load than all else that a start needs.
 */
export function isIP(text: string): 0 | 4 | 6 {
  if (!like.test(text)) return 0;
  // Loaded here because a password in a URL is hidden before anything that takes long is loaded.
  const { ipv4, ipv6 } = (require("zod/mini") as typeof zod).regexes;
  if (ipv4.test(text)) return 4;
  const [address = ""] = text.split("%");
  const asGroups = (whole: string, last: string) => (ipv4.test(last) ? ":0:0" : whole);
  return ipv6.test(address.replace(tail, asGroups)) ? 6 : 0;
}
