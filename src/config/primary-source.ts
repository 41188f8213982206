import {
  decode,
  describeTarget,
  type Login,
  parsePrimaryUrl,
  type PrimaryTarget,
  readAuthority,
  splitUrl,
} from "./primary-url.ts";
import { type Address, describeAddress } from "../base/address.ts";

/** The Sentinels that know where the primary is, and the login for that primary. */
export type SentinelSource = Login & {
  readonly kind: "sentinel";
  /** Whether to use TLS, both to the Sentinels and to the primary. */
  readonly tls: boolean;
  /** At least one, in the order in which to ask them. */
  readonly sentinels: readonly Address[];
  /** The name of the master that they watch. */
  readonly master: string;
};

/** What to follow: a primary, or whichever primary the Sentinels name. */
export type PrimarySource = PrimaryTarget | SentinelSource;

/** The default port of a Sentinel. */
const SENTINEL_PORT = 26379;

/**
 * Parses a primary's URL (`parsePrimaryUrl`), or one that lists Sentinels:
 * `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/name`, `rediss+sentinel://…` (TLS).
 * @throws ReplicaError USAGE if it is malformed; the message never contains the password.
 */
export function parsePrimarySource(url: string): PrimarySource {
  if (!/^rediss?\+sentinel:\/\//i.test(url)) return parsePrimaryUrl(url);
  const { scheme, login, rest, refuse } = splitUrl(url);
  const [list = "", ...names] = rest.split("/");
  const sentinels = list.split(",").map((one) => readAuthority(one, SENTINEL_PORT, refuse));
  const [name = "", ...more] = names;
  if (name === "") {
    throw refuse(`the master's name is missing: ${scheme}://host[:port],…/name`);
  }
  if (more.length > 0) throw refuse("nothing may follow the master's name: write / in it as %2F");
  const master = decode(name, "the master's name", refuse);
  if (/\p{Cc}/u.test(master)) throw refuse("the master's name contains a control character");
  return { kind: "sentinel", tls: scheme.startsWith("rediss"), sentinels, master, ...login };
}

/** The source as a URL without its password, for logs and errors. */
export function describeSource(source: PrimarySource): string {
  if (source.kind !== "sentinel") return describeTarget(source);
  const user = source.username === undefined ? "" : `${encodeURIComponent(source.username)}@`;
  const sentinels = source.sentinels.map(describeAddress).join(",");
  return `${source.tls ? "rediss" : "redis"}+sentinel://${user}${sentinels}/${encodeURIComponent(source.master)}`;
}
