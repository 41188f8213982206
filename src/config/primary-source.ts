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

/** The sentinels that know where the primary is, and the login at that primary. */
export type SentinelSource = Login & {
  readonly kind: "sentinel";
  /** Whether the sentinels and the primary are spoken to over TLS. */
  readonly tls: boolean;
  /** At least one, in the order in which they are asked. */
  readonly sentinels: readonly Address[];
  /** The name under which they watch the primary. */
  readonly master: string;
};

/** Whom to follow: a primary, or whom the sentinels name. */
export type PrimarySource = PrimaryTarget | SentinelSource;

/** The port of a sentinel that names none. */
const SENTINEL_PORT = 26379;

/**
 * Reads a primary's URL (`parsePrimaryUrl`), or that of sentinels:
 * `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/name`, `rediss+sentinel://…` (TLS).
 * @throws ReplicaError USAGE where it is none; the message never carries the password.
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
  if (more.length > 0) throw refuse("after the master's name it ends: write / in it as %2F");
  const master = decode(name, "the master's name", refuse);
  if (/\p{Cc}/u.test(master)) throw refuse("the master's name holds a control character");
  return { kind: "sentinel", tls: scheme.startsWith("rediss"), sentinels, master, ...login };
}

/** The source as a URL without its password, for logs and errors. */
export function describeSource(source: PrimarySource): string {
  if (source.kind !== "sentinel") return describeTarget(source);
  const user = source.username === undefined ? "" : `${encodeURIComponent(source.username)}@`;
  const sentinels = source.sentinels.map(describeAddress).join(",");
  return `${source.tls ? "rediss" : "redis"}+sentinel://${user}${sentinels}/${encodeURIComponent(source.master)}`;
}
