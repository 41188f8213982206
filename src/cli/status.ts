import type { Socket } from "bun";
import { isIP } from "node:net";
import { limits, type Settings } from "../config.ts";
import { ReplicaError } from "../errors.ts";
import { formatBytes } from "../quantity.ts";
import { encodeCommand } from "../resp/encode.ts";
import type { RunCommand } from "./command.ts";

/** `replica status [HOST:PORT]`: what a running replica says of itself. */
export const status: RunCommand = async ({ settings, args, json, signal, stdout }) => {
  const address = args[0] === undefined ? ownAddress(settings) : parseAddress(args[0], settings);
  const info = parseInfo(await askInfo(address, settings.requirepass, signal));
  if (!info.has("state")) {
    throw new ReplicaError("PROTOCOL", {
      message: `what answers at ${shown(address)} is no replica of this kind: its INFO has no state`,
    });
  }
  stdout.write(json ? `${JSON.stringify(infoToJson(info))}\n` : screen(info, address));
  return info.get("state") === "connected" ? 0 : 1;
};

interface Address {
  readonly host: string;
  readonly port: number;
}

function ownAddress(settings: Settings): Address {
  if (settings.port === 0) throw usage("--port 0 names no port: give the one that was picked");
  // Who serves every address answers at the loopback one.
  const wildcards: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  return { host: wildcards[settings.bind] ?? settings.bind, port: settings.port };
}

function parseAddress(text: string, settings: Settings): Address {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]*))(?::(\d{1,5}))?$/i.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = match?.[3] === undefined ? settings.port : Number(match[3]);
  const badHost =
    match?.[1] === undefined ? host === "" && match?.[3] === undefined : isIP(host) !== 6;
  if (match === null || badHost || port < 1 || port > 65535) {
    throw usage(
      `status takes HOST:PORT, such as 127.0.0.1:6380 or [::1]:6380, not ${JSON.stringify(text)}`,
    );
  }
  return { host: host === "" ? "127.0.0.1" : host, port };
}

function usage(message: string): ReplicaError {
  return new ReplicaError("USAGE", { message, retry: "never" });
}

function shown({ host, port }: Address): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** Sends AUTH, where there is a password, and INFO; resolves to INFO's text. */
async function askInfo(
  address: Address,
  password: string | undefined,
  signal: AbortSignal,
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const at = shown(address);
  const silence = (message: string, cause?: unknown): void =>
    reject(new ReplicaError("CONNECT_FAILED", { message, cause }));
  const noAnswer = `nothing answers at ${at}: is replica running there?`;
  const timer = setTimeout(
    () => silence(`no answer from ${at} within ${limits.statusTimeoutMs / 1000} s`),
    limits.statusTimeoutMs,
  );
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });

  let received: Buffer = Buffer.alloc(0);
  let socket: Socket | undefined;
  const connecting = Bun.connect({
    hostname: address.host,
    port: address.port,
    socket: {
      open(opened) {
        // Its password leads, so the port answers that first.
        const auth = password === undefined ? [] : [encodeCommand("AUTH", password)];
        opened.write(Buffer.concat([...auth, encodeCommand("INFO")]));
      },
      data(_socket, chunk) {
        received = Buffer.concat([received, chunk]);
        try {
          const info = readAnswer(received, password !== undefined, at);
          if (info !== undefined) resolve(info);
        } catch (error) {
          reject(error);
        }
      },
      close: () => silence(`${at} closed the connection without an answer`),
      error: (_socket, cause) => silence(noAnswer, cause),
    },
  });
  // Not awaited: a connect that hangs must not outlast the time limit.
  connecting.then(
    (connected) => (socket = connected),
    (cause: unknown) => silence(noAnswer, cause),
  );
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    socket?.end();
  }
}

/** INFO's text once all of it is there; too short is not wrong. */
function readAnswer(received: Buffer, afterAuth: boolean, at: string): string | undefined {
  if (received.length > limits.statusReplyBytes) throw notOurs(at);
  let position = 0;
  for (let repliesLeft = afterAuth ? 2 : 1; repliesLeft > 0; repliesLeft -= 1) {
    const end = received.indexOf("\r\n", position);
    if (end === -1) return undefined;
    const line = received.toString("utf8", position, end);
    position = end + 2;
    // A port without a password needs no AUTH, and says so as Redis does.
    if (repliesLeft > 1 && /^-ERR .*without any password/.test(line)) continue;
    if (line.startsWith("-")) throw refusal(line, at);
    if (repliesLeft > 1) {
      if (line !== "+OK") throw notOurs(at);
      continue;
    }
    if (!/^\$\d{1,8}$/.test(line)) throw notOurs(at);
    const finish = position + Number(line.slice(1));
    if (finish + 2 > received.length) return undefined;
    return received.toString("utf8", position, finish);
  }
  return undefined;
}

function refusal(line: string, at: string): ReplicaError {
  if (line.startsWith("-NOAUTH")) {
    return new ReplicaError("AUTH_FAILED", {
      message: `${at} asks for a password: give --requirepass-file FILE`,
    });
  }
  if (line.startsWith("-WRONGPASS") || line.startsWith("-ERR invalid password")) {
    return new ReplicaError("AUTH_FAILED", {
      message: `${at} takes another password than the one in --requirepass-file`,
    });
  }
  return new ReplicaError("PROTOCOL", {
    message: `${at} answered: ${line.slice(1, 200).replace(/,? with args beginning with.*$/i, "")}`,
  });
}

function notOurs(at: string): ReplicaError {
  return new ReplicaError("PROTOCOL", {
    message: `what answers at ${at} doesn't speak as a replica does: is it another service?`,
  });
}

/** The fields of INFO, section titles left out. */
export function parseInfo(text: string): Map<string, string> {
  const info = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon > 0 && !line.startsWith("#")) info.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return info;
}

/** The fields as JSON: numbers as numbers, where none of their digits is lost. */
export function infoToJson(info: ReadonlyMap<string, string>): Record<string, string | number> {
  const entries = [...info].map(([name, value]): [string, string | number] => {
    // Such names hold texts that consist of digits now and then; their type must not change with it.
    const isText = /^run_id$|(?:crc64|replid2?|version|host|error)$/.test(name);
    const isNumber = !isText && /^-?\d+(?:\.\d+)?$/.test(value) && String(Number(value)) === value;
    return [name, isNumber ? Number(value) : value];
  });
  return Object.fromEntries(entries);
}

function screen(info: ReadonlyMap<string, string>, address: Address): string {
  const field = (name: string): string => info.get(name) ?? "-";
  const count = (name: string): string => {
    const value = info.get(name);
    return value !== undefined && /^\d+$/.test(value)
      ? Number(value).toLocaleString("en")
      : (value ?? "-");
  };
  const size = (name: string): string => {
    const value = info.get(name);
    return value !== undefined && /^\d+$/.test(value) ? formatBytes(Number(value)) : (value ?? "-");
  };
  const lastError = info.get("last_error") ?? "";
  // Until Sentinel first names one.
  const primary =
    field("master_host") === ""
      ? "none named yet"
      : `${field("master_host")}:${field("master_port")}`;
  const rows: [string, string][] = [
    ["replica", shown(address)],
    ["state", field("state")],
    ["primary", `${primary}, link ${field("master_link_status")}`],
    ["offset", count("slave_repl_offset")],
    ["durable offset", count("durable_offset")],
    ["generation", field("generation")],
    ["snapshot", size("rdb_bytes")],
    ["log", size("log_bytes")],
    ["full syncs", count("full_syncs")],
    ["partial syncs", count("partial_syncs")],
    ["last error", lastError === "" ? "none" : lastError],
  ];
  return rows.map(([name, value]) => `${name.padEnd(14)}  ${printable(value)}\n`).join("");
}

/** What a peer says must not steer the terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, "?");
}
