import { isIP } from "../base/address.ts";
import { type Address, describeAddress } from "../base/address.ts";
import { type ReplicaError, usageError } from "../base/errors.ts";

/** The login for the primary; the password is secret. */
export interface Login {
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** An address to connect to. */
export type Endpoint =
  ({ readonly kind: "tcp" | "tls" } & Address) | { readonly kind: "unix"; readonly path: string };

/** The address of a primary, and the login for it. */
export type PrimaryTarget = Endpoint &
  Login & {
    /** Whether nothing but REPLICAOF names it: then the login that was given at the start isn't for it. */
    readonly isStranger?: true;
  };

/** The default port of a URL. */
const defaultPort = 6379;

/** The primary to follow if none is given. */
export const DEFAULT_URL = `redis://127.0.0.1:${defaultPort}`;

const form =
  "redis://[login@]host[:port], rediss://…, unix:///path.sock, redis+sentinel://host[:port],…/name or redis+cluster://host[:port],…";

/** Makes the error that refuses a part of a URL. */
export type Refuse = (reason: string) => ReplicaError;

/**
 * Parses a primary's URL: `redis://[user[:password]@]host[:port]`, `rediss://…` (TLS) or
 * `unix://[user[:password]@]/path.sock`; IPv6 in brackets, `%xx` in user, password and path.
 * @throws ReplicaError USAGE if it is malformed; the message never contains the password.
 */
export function parsePrimaryUrl(url: string): PrimaryTarget {
  const { scheme, login, rest, refuse } = splitUrl(url);
  switch (scheme) {
    case "redis":
      return { kind: "tcp", ...readAddress(rest, refuse), ...login };
    case "rediss":
      return { kind: "tls", ...readAddress(rest, refuse), ...login };
    case "unix":
      return { kind: "unix", path: readSocketPath(rest, refuse), ...login };
    default:
      throw refuse(
        `unknown scheme ${scheme}://: use redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://`,
      );
  }
}

/**
 * Splits a URL into its scheme in lower case, its login and the rest; `refuse` makes errors about it.
 * @throws ReplicaError USAGE if it is not a URL.
 */
export function splitUrl(url: string): {
  readonly scheme: string;
  readonly login: Login;
  readonly rest: string;
  readonly refuse: Refuse;
} {
  const refuse = (reason: string): ReplicaError => usageError(`${redactUrl(url)}: ${reason}`);
  const match = /^([a-z+]+):\/\/(?:([^/@?#]*)@)?(.*)$/is.exec(url);
  if (match === null) throw refuse(`not a URL${suggestion(url)}`);
  const [, scheme = "", userinfo, rest = ""] = match;
  // An @ here means that the login contains characters that were not encoded.
  if (rest.includes("@")) throw refuse(unencoded(url));
  const extra = /[?#]/.exec(rest)?.[0];
  if (extra !== undefined) throw refuse(`a ${extra} is not allowed: the form is ${form}`);
  return { scheme: scheme.toLowerCase(), login: readLogin(userinfo, refuse), rest, refuse };
}

/** Says which characters of a URL's user or password must be written otherwise, and how. */
function unencoded(url: string): string {
  const login = url.slice(url.indexOf("://") + 3, url.lastIndexOf("@"));
  const found = ["@", "/", "?", "#"].filter((character) => login.includes(character));
  const how = found.map((character) => `${character} as ${encodeURIComponent(character)}`);
  return `write ${how.join(", ")} and % as %25 in a user or password (percent-encoding), ${orInFile}`;
}

/** The way out for a password that is hard to write in a URL. */
const orInFile = "or put the password into a file, for --password-file";

/**
 * The primary at a host and a port, as given by REPLICAOF or a Sentinel.
 * @throws ReplicaError USAGE if either is invalid.
 */
export function targetAt(
  kind: "tcp" | "tls",
  host: string,
  port: string,
  { username, password }: Login,
): PrimaryTarget {
  const refuse = (reason: string): ReplicaError =>
    usageError(`${JSON.stringify(`${host}:${port}`)}: ${reason}`);
  if (isIP(host) === 0) checkHostName(host, refuse);
  return { kind, host, port: readPort(port, refuse), username, password };
}

/**
 * Whether both are the same by what they say, without looking up a name: in the same form of connection, to the same
 * host and port.
 */
export function sameEndpoint(one: Endpoint, other: Endpoint): boolean {
  if (one.kind === "unix" || other.kind === "unix") {
    return one.kind === "unix" && other.kind === "unix" && one.path === other.path;
  }
  return (
    one.kind === other.kind &&
    one.port === other.port &&
    canonicalHost(one.host) === canonicalHost(other.host)
  );
}

/** An IPv6 address has many spellings, a name two cases. */
function canonicalHost(host: string): string {
  const inUrl = isIP(host) === 6 ? URL.parse(`http://[${host}]`)?.hostname : undefined;
  return (inUrl ?? host).toLowerCase();
}

/** The target as a URL without its password, for logs and errors. */
export function describeTarget(target: PrimaryTarget): string {
  const user = target.username === undefined ? "" : `${encodeURIComponent(target.username)}@`;
  if (target.kind === "unix") return `unix://${user}${encodePath(target.path)}`;
  return `${target.kind === "tls" ? "rediss" : "redis"}://${user}${describeAddress(target)}`;
}

/**
 * The URL without anything that could be a password, however malformed it is; for errors about it.
 */
export function redactUrl(url: string): string {
  if (url === "") return '""';
  const scheme = /^[a-z+]+:\/\//i.exec(url)?.[0] ?? "";
  const rest = url.slice(scheme.length);
  if (isIP(rest) === 6) return url;
  if (/[?#]/.test(rest)) return `${scheme}***`;
  const at = rest.lastIndexOf("@");
  if (at !== -1) return `${scheme}***@${rest.slice(at + 1)}`;
  // In "redis://:secret" the host is missing: anything but a port may be a password.
  if (scheme.includes("+")) return `${scheme}${addressList.test(rest) ? rest : "***"}`;
  return scheme + rest.replace(/^(\[[^\]]*\]|[^:[]*):(?!\d{1,6}(?:\/|$)).*$/s, "$1:***");
}

/** Matches `host[:port],…/name` or `host[:port],…` in which nothing can be a password. */
const addressList =
  /^(?:\[[^\]]*\]|[^:[,/]*)(?::\d{1,6})?(?:,(?:\[[^\]]*\]|[^:[,/]*)(?::\d{1,6})?)*(?:\/[^:]*)?$/s;

/** A primary's URL without its password; undefined if there is none, or if it is not such a URL. */
export function bareUrl(url: string): string | undefined {
  const match = /^([a-z+]+:\/\/[^:/@?#]*):[^/@?#]*(@[^@?#]*)$/is.exec(url);
  if (match === null || !knownScheme.test(url)) return undefined;
  const [, user = "", rest = ""] = match;
  return `${user}${rest}`;
}

const knownScheme = /^(?:rediss?(?:\+(?:sentinel|cluster))?|unix):/i;

function suggestion(url: string): string {
  const login = url.includes("@") ? "***@" : "";
  const address = url.slice(url.lastIndexOf("@") + 1);
  const meant = isIP(address) === 6 ? `[${address}]` : address.replace(/^:?(\d+)$/, "127.0.0.1:$1");
  const [, host, port = String(defaultPort)] =
    /^(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{1,5}))?$/i.exec(meant) ?? [];
  if (host === undefined || !isPort(port)) return `: the form is ${form}`;
  return `: did you mean redis://${login}${host}:${port}?`;
}

function readLogin(userinfo: string | undefined, refuse: Refuse): Login {
  if (userinfo === undefined) return { username: undefined, password: undefined };
  const colon = userinfo.indexOf(":");
  const user = colon === -1 ? userinfo : userinfo.slice(0, colon);
  const password = colon === -1 ? "" : userinfo.slice(colon + 1);
  return {
    username: decode(user, "the user", refuse) || undefined,
    password: decode(password, "the password", refuse) || undefined,
  };
}

function readAddress(rest: string, refuse: Refuse): Address {
  const slash = rest.indexOf("/");
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  const path = slash === -1 ? "" : rest.slice(slash);
  const address = readAuthority(authority, defaultPort, refuse);
  if (path !== "" && path !== "/") {
    throw refuse("a path is not allowed: a replica follows every database of its primary");
  }
  return address;
}

/** Parses `host[:port]`, with an IPv6 address in brackets. */
export function readAuthority(text: string, port: number, refuse: Refuse): Address {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(text);
  if (match === null || isIP(text) === 6)
    throw refuse("write an IPv6 address in brackets: redis://[::1]:6379");
  const [, inBrackets, plain = "", portText = ""] = match;
  if (inBrackets !== undefined && isIP(inBrackets) !== 6) {
    throw refuse("what is in brackets is not an IPv6 address");
  }
  const host = inBrackets ?? plain;
  if (host === "") throw refuse(`the host is missing: the form is ${form}`);
  if (inBrackets === undefined) checkHostName(host, refuse);
  return { host, port: portText === "" ? port : readPort(portText, refuse) };
}

function checkHostName(host: string, refuse: Refuse): void {
  if (!/^[\p{L}\p{N}_.-]+$/u.test(host)) throw refuse("the host is not a valid host name");
}

function readPort(text: string, refuse: Refuse): number {
  if (isPort(text)) return Number(text);
  throw refuse("the port is not a whole number from 1 to 65535");
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;
}

function readSocketPath(rest: string, refuse: Refuse): string {
  if (!rest.startsWith("/")) throw refuse("a socket path begins with /: unix:///path.sock");
  const path = decode(rest, "the path", refuse);
  if (path === "/") throw refuse("the socket path is missing: unix:///path.sock");
  // sun_path in sockaddr_un has 108 bytes, including the terminating zero (104 on macOS).
  if (Buffer.byteLength(path) > 107 || path.includes("\0")) {
    throw refuse("a socket path has at most 107 bytes");
  }
  return path;
}

/** Decodes `%xx`; `what` names the part in the error. */
export function decode(text: string, what: string, refuse: Refuse): string {
  try {
    return decodeURIComponent(text);
  } catch {
    const orElse = what === "the password" ? `, ${orInFile}` : "";
    const why = /%(?![0-9a-f]{2})/i.test(text)
      ? `a % in ${what} is not followed by two hex digits: write it as %25 (percent-encoding)`
      : `what is percent-encoded in ${what} is not UTF-8 text: write a % as %25`;
    throw refuse(why + orElse);
  }
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
