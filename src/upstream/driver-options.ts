import { ReplicaError } from "../base/errors.ts";
import { type Settings } from "../config/settings.ts";
import type { SessionOptions } from "../session/session.ts";
import type { TlsFiles } from "./link/link.ts";
import type { AskInfo } from "./other-history.ts";
import type { PrimaryLogin } from "./link/primary-login.ts";
import { askInfo } from "./link/side-link.ts";
import { limits } from "../config/limits.ts";

/** Where a replica serves, as the primary should show it. */
export interface AnnouncedAddress {
  readonly port: number;
  /** Undefined: the address that the primary sees. */
  readonly ip: string | undefined;
}

/** What a session and its link are made with. */
export type DriverOptions = SessionOptions & {
  readonly tls: TlsFiles;
  /** Looked up at each attempt. */
  readonly login: PrimaryLogin;
};

/**
 * The options of a link from the settings.
 * @param primary its login is looked up at each attempt.
 * @param announced undefined where nothing serves, so nothing is announced.
 */
export function driverOptions(
  purpose: SessionOptions["purpose"],
  primary: { readonly login: PrimaryLogin },
  settings: Settings,
  announced: AnnouncedAddress | undefined,
): DriverOptions {
  return {
    purpose,
    listeningPort: announced?.port,
    announceIp: announced?.ip,
    syncTimeoutMs: settings.syncTimeoutMs,
    timeoutMs: settings.timeoutMs,
    maxLineBytes: limits.handshakeLineBytes,
    tls: settings.tls,
    login: primary.login,
  };
}

/** Asks a primary for INFO, with the login of the link that follows it. */
export function infoAsker(
  { login }: { readonly login: PrimaryLogin },
  { tls, syncTimeoutMs, askPrimary }: Settings,
): AskInfo {
  return async (target) => {
    if (!askPrimary) {
      throw new ReplicaError("PRIMARY_REFUSED", {
        message: "INFO is not asked (--ask-primary no)",
      });
    }
    return await askInfo(target, { login, tls, syncTimeoutMs });
  };
}
