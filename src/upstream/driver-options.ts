import { type Settings } from "../config/settings.ts";
import type { Login } from "../config/primary-url.ts";
import type { SessionOptions } from "../session/session.ts";
import { askInfo } from "./link/ask-info.ts";
import type { TlsFiles } from "./link/link.ts";
import type { AskInfo } from "./other-history.ts";
import { limits } from "../config/limits.ts";

/** Where a replica serves, as the primary should show it. */
export interface AnnouncedAddress {
  readonly port: number;
  /** Undefined: the address that the primary sees. */
  readonly ip: string | undefined;
}

/** What a session and its link are made with. */
export type DriverOptions = SessionOptions & { readonly tls: TlsFiles };

/**
 * The options of a link from the settings.
 * @param login the login that the URL carries; it comes before that of the settings.
 * @param announced undefined where nothing serves, so nothing is announced.
 */
export function driverOptions(
  purpose: SessionOptions["purpose"],
  login: Login,
  settings: Settings,
  announced: AnnouncedAddress | undefined,
): DriverOptions {
  return {
    purpose,
    ...loginOf(login, settings),
    listeningPort: announced?.port,
    announceIp: announced?.ip,
    syncTimeoutMs: settings.syncTimeoutMs,
    timeoutMs: settings.timeoutMs,
    maxLineBytes: limits.handshakeLineBytes,
    tls: settings.tls,
  };
}

/** Asks a primary for INFO, with the login of the link that follows it. */
export function infoAsker(login: Login, settings: Settings): AskInfo {
  const { tls, syncTimeoutMs } = settings;
  return (target) => askInfo(target, { login: loginOf(login, settings), tls, syncTimeoutMs });
}

function loginOf(login: Login, settings: Settings): Login {
  return {
    username: login.username ?? settings.username,
    password: login.password ?? settings.password,
  };
}
