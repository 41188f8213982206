import { isIP } from "node:net";
import { ReplicaError } from "./errors.ts";

/** Where a primary is, and as whom to log in; the password is secret. */
export type PrimaryTarget = {
  readonly username: string | undefined;
  readonly password: string | undefined;
} & (
  | { readonly kind: "tcp" | "tls"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
);

/** The port of a URL that names none. */
const defaultPort = 6379;

/** Whom to follow when nobody is named. */
export const DEFAULT_URL = `redis://127.0.0.1:${defaultPort}`;

const form = "redis://[user[:password]@]host[:port], rediss://… or unix:///path.sock";

/**
 * Reads a primary's URL: `redis://[user[:password]@]host[:port]`, `rediss://…` (TLS) or
 * `unix://[user[:password]@]/path.sock`; IPv6 in brackets, `%xx` in user, password and path.
 * @throws ReplicaError USAGE where it is none; the message never carries the password.
 */
export function parsePrimaryUrl(url: string): PrimaryTarget {
  const refuse = (reason: string): ReplicaError =>
    new ReplicaError("USAGE", { message: `${redactUrl(url)}: ${reason}`, retry: "never" });

  const match = /^([a-z]+):\/\/(?:([^/@?#]*)@)?(.*)$/is.exec(url);
  if (match === null) throw refuse(`a URL is expected${suggestion(url)}`);
  const [, scheme = "", userinfo, rest = ""] = match;
  // Characters that would end an authority belong to the password of somebody who didn't encode it.
  if (rest.includes("@")) {
    throw refuse("write @ / ? and # in a user or password as %40 %2F %3F and %23");
  }
  if (/[?#]/.test(rest)) throw refuse(`it may not go on with ? or #: the form is ${form}`);
  const login = readLogin(userinfo, refuse);
  switch (scheme.toLowerCase()) {
    case "redis":
      return { kind: "tcp", ...readAddress(rest, refuse), ...login };
    case "rediss":
      return { kind: "tls", ...readAddress(rest, refuse), ...login };
    case "unix":
      return { kind: "unix", path: readSocketPath(rest, refuse), ...login };
    default:
      throw refuse(`the scheme ${scheme}:// is none of redis://, rediss:// and unix://`);
  }
}

/** The target as a URL without its password, for logs and errors. */
export function describeTarget(target: PrimaryTarget): string {
  const user = target.username === undefined ? "" : `${encodeURIComponent(target.username)}@`;
  if (target.kind === "unix") return `unix://${user}${encodePath(target.path)}`;
  const host = isIP(target.host) === 6 ? `[${target.host}]` : target.host;
  return `${target.kind === "tls" ? "rediss" : "redis"}://${user}${host}:${target.port}`;
}

/**
 * The URL with everything cut out that could be a password, however it is malformed; for errors
 * about it.
 */
export function redactUrl(url: string): string {
  const scheme = /^[a-z]+:\/\//i.exec(url)?.[0] ?? "";
  const rest = url.slice(scheme.length);
  if (/[?#]/.test(rest)) return `${scheme}***`;
  const at = rest.lastIndexOf("@");
  if (at !== -1) return `${scheme}***@${rest.slice(at + 1)}`;
  // "redis://:secret" lacks its host; what looks like no port may be a password.
  return scheme + rest.replace(/^(\[[^\]]*\]|[^:[]*):(?!\d{1,6}(?:\/|$)).*$/s, "$1:***");
}

/**
 * The URL without its password, and the password still encoded; undefined where it carries none, or
 * is no URL of a primary.
 */
export function splitPassword(url: string): { url: string; password: string } | undefined {
  const match = /^(rediss?|unix)(:\/\/[^:/@?#]*):([^/@?#]*)(@[^@?#]*)$/is.exec(url);
  if (match === null) return undefined;
  const [, scheme, user, password = "", rest] = match;
  return { url: `${scheme}${user}${rest}`, password };
}

type Refuse = (reason: string) => ReplicaError;

function suggestion(url: string): string {
  const address = url.slice(url.lastIndexOf("@") + 1);
  if (isIP(address) === 6) return `: redis://[${address}]:${defaultPort}?`;
  if (/^(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+):\d{1,5}$/i.test(address)) return `: redis://${address}?`;
  if (/^(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+)$/i.test(address)) {
    return `: redis://${address}:${defaultPort}?`;
  }
  return `: ${form}`;
}

function readLogin(
  userinfo: string | undefined,
  refuse: Refuse,
): { username: string | undefined; password: string | undefined } {
  if (userinfo === undefined) return { username: undefined, password: undefined };
  const colon = userinfo.indexOf(":");
  const user = colon === -1 ? userinfo : userinfo.slice(0, colon);
  const password = colon === -1 ? "" : userinfo.slice(colon + 1);
  return {
    username: decode(user, "the user", refuse) || undefined,
    password: decode(password, "the password", refuse) || undefined,
  };
}

function readAddress(rest: string, refuse: Refuse): { host: string; port: number } {
  const slash = rest.indexOf("/");
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  const path = slash === -1 ? "" : rest.slice(slash);
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(authority);
  if (match === null) throw refuse("an IPv6 address stands in brackets: redis://[::1]:6379");
  const [, inBrackets, plain = "", portText] = match;
  if (inBrackets !== undefined && isIP(inBrackets) !== 6) {
    throw refuse("what stands in brackets is no IPv6 address");
  }
  const host = inBrackets ?? plain;
  if (host === "") throw refuse(`it names no host: the form is ${form}`);
  if (inBrackets === undefined && !/^[\p{L}\p{N}_.-]+$/u.test(host)) {
    throw refuse("its host is no host name");
  }
  const port = portText === undefined || portText === "" ? defaultPort : Number(portText);
  if (!/^\d{0,5}$/.test(portText ?? "") || port < 1 || port > 65535) {
    throw refuse("its port is no whole number from 1 to 65535");
  }
  if (path !== "" && path !== "/") {
    throw refuse("it may not end in a path: a replica takes every database of its primary");
  }
  return { host, port };
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

function decode(text: string, what: string, refuse: Refuse): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(`${what} has a % that no two hex digits follow: write it as %25`);
  }
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
