import { type Settings } from "../config/settings.ts";
import type { Login } from "../config/primary-url.ts";
import type { SessionOptions } from "../session/session.ts";
import type { TlsFiles } from "./link/link.ts";
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
    username: login.username ?? settings.username,
    password: login.password ?? settings.password,
    listeningPort: announced?.port,
    announceIp: announced?.ip,
    syncTimeoutMs: settings.syncTimeoutMs,
    timeoutMs: settings.timeoutMs,
    maxLineBytes: limits.handshakeLineBytes,
    tls: settings.tls,
  };
}
