import { isIP } from "node:net";
import { type Address, describeAddress } from "../base/address.ts";
import { type ReplicaError, usageError } from "../base/errors.ts";

/** As whom to log in at the primary; the password is secret. */
export interface Login {
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** What a link is opened to. */
export type Endpoint =
  ({ readonly kind: "tcp" | "tls" } & Address) | { readonly kind: "unix"; readonly path: string };

/** Where a primary is, and as whom to log in. */
export type PrimaryTarget = Endpoint & Login;

/** The port of a URL that names none. */
const defaultPort = 6379;

/** Whom to follow when nobody is named. */
export const DEFAULT_URL = `redis://127.0.0.1:${defaultPort}`;

const form =
  "redis://[user[:password]@]host[:port], rediss://…, unix:///path.sock or redis+sentinel://host[:port],…/name";

/** Makes the error that a part of a URL is refused with. */
export type Refuse = (reason: string) => ReplicaError;

/**
 * Reads a primary's URL: `redis://[user[:password]@]host[:port]`, `rediss://…` (TLS) or
 * `unix://[user[:password]@]/path.sock`; IPv6 in brackets, `%xx` in user, password and path.
 * @throws ReplicaError USAGE where it is none; the message never carries the password.
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
        `the scheme ${scheme}:// is none of redis://, rediss://, unix:// and redis+sentinel://`,
      );
  }
}

/**
 * The scheme of a URL in small letters, its login, and what follows that; with what refuses a part of
 * it.
 * @throws ReplicaError USAGE where it has no such parts.
 */
export function splitUrl(url: string): {
  readonly scheme: string;
  readonly login: Login;
  readonly rest: string;
  readonly refuse: Refuse;
} {
  const refuse = (reason: string): ReplicaError => usageError(`${redactUrl(url)}: ${reason}`);
  const match = /^([a-z+]+):\/\/(?:([^/@?#]*)@)?(.*)$/is.exec(url);
  if (match === null) throw refuse(`a URL is expected${suggestion(url)}`);
  const [, scheme = "", userinfo, rest = ""] = match;
  // Characters that would end an authority belong to the password of somebody who didn't encode it.
  if (rest.includes("@")) {
    throw refuse("write @ / ? and # in a user or password as %40 %2F %3F and %23");
  }
  if (/[?#]/.test(rest)) throw refuse(`it may not go on with ? or #: the form is ${form}`);
  return { scheme: scheme.toLowerCase(), login: readLogin(userinfo, refuse), rest, refuse };
}

/**
 * The primary at a host and a port, as REPLICAOF and Sentinel name it.
 * @throws ReplicaError USAGE where there can be none.
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

/** The target as a URL without its password, for logs and errors. */
export function describeTarget(target: PrimaryTarget): string {
  const user = target.username === undefined ? "" : `${encodeURIComponent(target.username)}@`;
  if (target.kind === "unix") return `unix://${user}${encodePath(target.path)}`;
  return `${target.kind === "tls" ? "rediss" : "redis"}://${user}${describeAddress(target)}`;
}

/**
 * The URL with everything cut out that could be a password, however it is malformed; for errors
 * about it.
 */
export function redactUrl(url: string): string {
  const scheme = /^[a-z+]+:\/\//i.exec(url)?.[0] ?? "";
  const rest = url.slice(scheme.length);
  if (/[?#]/.test(rest)) return `${scheme}***`;
  const at = rest.lastIndexOf("@");
  if (at !== -1) return `${scheme}***@${rest.slice(at + 1)}`;
  // "redis://:secret" lacks its host; what looks like no port may be a password.
  if (scheme.includes("+")) return `${scheme}${sentinelList.test(rest) ? rest : "***"}`;
  return scheme + rest.replace(/^(\[[^\]]*\]|[^:[]*):(?!\d{1,6}(?:\/|$)).*$/s, "$1:***");
}

/**
 * The text of an error without the passwords of URLs in it: one that was given as a file, a folder or a flag's
 * value is told as it came. A path that was made of it has one slash.
 */
export function withoutPasswords(text: string): string {
  return text.split("\n").map(withoutPassword).join("\n");
}

/** Up to the last @, though no password may be meant by that: which it is, can't be told. */
function withoutPassword(line: string): string {
  const end = line.lastIndexOf("@");
  const url = /(?<![a-z+])[a-z][a-z+]*:\/{1,2}[^\s:/@"]*:/i.exec(line.slice(0, Math.max(0, end)));
  return url === null ? line : `${line.slice(0, url.index)}${url[0]}***${line.slice(end)}`;
}

/** `host[:port],…/name`, so far as nothing in it can be a password. */
const sentinelList =
  /^(?:\[[^\]]*\]|[^:[,/]*)(?::\d{1,6})?(?:,(?:\[[^\]]*\]|[^:[,/]*)(?::\d{1,6})?)*(?:\/[^:]*)?$/s;

/**
 * The URL without its password, and the password still encoded; undefined where it carries none, or
 * is no URL of a primary.
 */
export function splitPassword(url: string): { url: string; password: string } | undefined {
  const match = /^([a-z+]+:\/\/[^:/@?#]*):([^/@?#]*)(@[^@?#]*)$/is.exec(url);
  if (match === null || !knownScheme.test(url)) return undefined;
  const [, user = "", password = "", rest = ""] = match;
  return { url: `${user}${rest}`, password };
}

/** What `splitPassword` took apart; undefined where the URL has no place for a password. */
export function joinPassword(url: string, password: string): string | undefined {
  const match = /^([a-z+]+:\/\/[^:/@?#]*)(@[^@?#]*)$/is.exec(url);
  return match === null || !knownScheme.test(url)
    ? undefined
    : `${match[1]}:${password}${match[2]}`;
}

const knownScheme = /^(?:rediss?(?:\+sentinel)?|unix):/i;

function suggestion(url: string): string {
  const address = url.slice(url.lastIndexOf("@") + 1);
  if (isIP(address) === 6) return `: redis://[${address}]:${defaultPort}?`;
  if (/^(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+):\d{1,5}$/i.test(address)) return `: redis://${address}?`;
  if (/^(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+)$/i.test(address)) {
    return `: redis://${address}:${defaultPort}?`;
  }
  return `: ${form}`;
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
    throw refuse("it may not end in a path: a replica takes every database of its primary");
  }
  return address;
}

/** Reads `host[:port]`, an IPv6 address in brackets. */
export function readAuthority(text: string, port: number, refuse: Refuse): Address {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(text);
  if (match === null) throw refuse("an IPv6 address stands in brackets: redis://[::1]:6379");
  const [, inBrackets, plain = "", portText = ""] = match;
  if (inBrackets !== undefined && isIP(inBrackets) !== 6) {
    throw refuse("what stands in brackets is no IPv6 address");
  }
  const host = inBrackets ?? plain;
  if (host === "") throw refuse(`it names no host: the form is ${form}`);
  if (inBrackets === undefined) checkHostName(host, refuse);
  return { host, port: portText === "" ? port : readPort(portText, refuse) };
}

function checkHostName(host: string, refuse: Refuse): void {
  if (!/^[\p{L}\p{N}_.-]+$/u.test(host)) throw refuse("its host is no host name");
}

function readPort(text: string, refuse: Refuse): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65535) return port;
  throw refuse("its port is no whole number from 1 to 65535");
}

function readSocketPath(rest: string, refuse: Refuse): string {
  if (!rest.startsWith("/")) throw refuse("the path of a socket begins with /: unix:///path.sock");
  const path = decode(rest, "the path", refuse);
  if (path === "/") throw refuse("it names no socket: unix:///path.sock");
  // sun_path of sockaddr_un holds 108 bytes with the closing zero (104 on macOS).
  if (Buffer.byteLength(path) > 107 || path.includes("\0")) {
    throw refuse("the path of a socket has at most 107 bytes");
  }
  return path;
}

/** Reads `%xx`; `what` names the part in the error. */
export function decode(text: string, what: string, refuse: Refuse): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(`${what} has a % that no two hex digits follow: write it as %25`);
  }
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
