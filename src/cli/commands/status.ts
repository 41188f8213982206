import { isIP } from "../../base/address.ts";
import type { Settings } from "../../config/settings.ts";
import { usageError } from "../../base/errors.ts";
import type { RunCommand } from "./command.ts";
import { type Address, describeAddress } from "../../base/address.ts";
import { PLAIN_COLUMNS } from "../terminal/fitted-table.ts";
import { InfoConnection } from "../status/info-connection.ts";
import { StatusTls } from "../status/status-tls.ts";
import { infoToJson, isReady } from "../status/info-json.ts";
import { screenLines } from "../status/status-screen.ts";
import { watchStatus } from "../status/status-watch.ts";

const WATCH_EVERY_MS = 1_000;

/** `replica status [HOST:PORT]`: shows the state of a running replica, once or repeatedly. */
export const status: RunCommand = async ({ settings, args, options, signal, stdout }) => {
  const json = options.has("json");
  const { scheme, place } = splitScheme(args[0]);
  const address = place === undefined ? ownAddress(settings) : parseAddress(place, settings);
  const at = describeAddress(address);
  const isTls = scheme === "rediss" || (scheme === undefined && settings.portTls !== undefined);
  const tls = isTls ? new StatusTls(settings, address) : undefined;
  const connection = new InfoConnection(address, settings.requirepass, tls);
  try {
    if (options.has("watch")) {
      const ask = (signal: AbortSignal) => connection.ask(signal);
      await watchStatus({ at, ask, json, stdout, signal, everyMs: WATCH_EVERY_MS });
      return 0;
    }
    const info = await connection.ask(signal);
    if (json) stdout.write(`${JSON.stringify(infoToJson(info))}\n`);
    else {
      const { isTty, hasColors } = stdout;
      const columns = isTty ? stdout.columns : PLAIN_COLUMNS;
      stdout.write(`${screenLines({ at, info }, { columns, hasColors }).join("\n")}\n`);
    }
    return isReady(info) ? 0 : 1;
  } finally {
    connection.close();
  }
};

/** Splits `rediss://HOST:PORT`; the scheme may be missing. A login is no part of it: as a whole, errors know how to hide one. */
function splitScheme(text: string | undefined) {
  const match = /^(rediss?):\/\/([^@]*?)\/?$/is.exec(text ?? "");
  if (match === null) return { scheme: undefined, place: text };
  return { scheme: match[1]?.toLowerCase(), place: match[2] };
}

function ownAddress(settings: Settings): Address {
  if (settings.port === 0)
    throw usageError("--port 0 does not say which port: give the one that was picked");
  // A server bound to every address answers on loopback.
  const wildcards: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  return { host: wildcards[settings.bind] ?? settings.bind, port: settings.port };
}

function parseAddress(text: string, settings: Settings): Address {
  // No host's name is a number: a port of this machine is meant, as in ":6380".
  const given = /^\d+$/.test(text) ? `:${text}` : text;
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]*))(?::(\d{1,5}))?$/i.exec(given);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = match?.[3] === undefined ? settings.port : Number(match[3]);
  const badHost =
    match?.[1] === undefined ? host === "" && match?.[3] === undefined : isIP(host) !== 6;
  if (match === null || badHost || port < 1 || port > 65535) {
    throw usageError(
      `status takes HOST:PORT, such as 127.0.0.1:6380 or [::1]:6380, or a port from 1 to 65535, not ${JSON.stringify(text)}`,
    );
  }
  return { host: host === "" ? "127.0.0.1" : host, port };
}
