import { ReplicaError } from "../base/errors.ts";
import type { Offset, ReplicationId } from "../base/history.ts";
import type { PrimaryTarget } from "../config/primary-url.ts";
import type { BulkForm } from "../resp/bulk-reader.ts";
import type { StreamStart } from "../session/events.ts";
import type { FullSyncGrant, State } from "../session/state.ts";
import { type Settings } from "../config/settings.ts";
import { announcedVersion, formFor } from "../rdb/releases.ts";
import type { SessionOptions } from "../session/session.ts";
import type { TlsFiles } from "./link/link.ts";
import type { AskInfo } from "./history/other-history.ts";
import type { PrimaryLogin } from "./link/primary-login.ts";
import { askInfo } from "./link/side-link.ts";
import { limits } from "../config/limits.ts";
import { describeAddress } from "../base/address.ts";
import { commandAt } from "../config/schema/command-names.ts";
import type { PeerTerms } from "../session/handshake.ts";
import { STOCK_COMMANDS } from "../session/services.ts";

/** Where a replica serves, as the primary should show it. */
export interface AnnouncedAddress {
  readonly port: number;
  /** Undefined: the address that the primary sees. */
  readonly ip: string | undefined;
}

/**
 * Where a replica serves, as the primary should show it; undefined where it serves nothing, so nothing is announced.
 * @param servedPort its own port.
 */
export function announcedAddress(
  { announcePort, announceIp: ip }: Pick<Settings, "announcePort" | "announceIp">,
  servedPort: number | undefined,
): AnnouncedAddress | undefined {
  const port = announcePort ?? servedPort;
  return port === undefined ? undefined : { port, ip };
}

/** What a session and its link are made with. */
export type DriverOptions = SessionOptions & {
  readonly tls: TlsFiles;
  /** How many links a full sync may take. */
  readonly syncLinks: 1 | 2;
  /** --rdb-for as it was given, where it asks Valkey for an older form than its own. */
  readonly olderForm?: string | undefined;
  /** Looked up at each attempt. */
  readonly login: PrimaryLogin;
  /** How a primary is asked for a sync. */
  readonly peerTerms: (target: PrimaryTarget) => PeerTerms;
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
    announcedVersion: settings.rdbFor && announcedVersion(settings.rdbFor),
    olderForm: olderForm(settings),
    tls: settings.tls,
    syncLinks: settings.syncLinks,
    login: primary.login,
    peerTerms: (target) => peerTerms(target, settings),
  };
}

function peerTerms(
  target: PrimaryTarget,
  { psyncCommand, syncCommand, askPrimary }: Settings,
): PeerTerms {
  const address = target.kind === "unix" ? undefined : describeAddress(target);
  return {
    address,
    isTls: target.kind === "tls",
    commands: {
      psync: commandAt(psyncCommand, address) ?? STOCK_COMMANDS.psync,
      sync: commandAt(syncCommand, address) ?? STOCK_COMMANDS.sync,
    },
    asksInfo: askPrimary,
  };
}

/** --rdb-for as it was given, where it asks Valkey for an older form than its own. */
export function olderForm({ rdbFor }: Pick<Settings, "rdbFor">): string | undefined {
  return rdbFor && formFor(rdbFor) === "common" ? rdbFor.text : undefined;
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

/** Takes the payload of a full resync: a new generation, a backup's file, or standard output. */
export interface SnapshotKeeper {
  /**
   * Opens the file of a snapshot, and resolves with its name. A `discard` meanwhile makes it reject.
   * @param events takes its reports from then on.
   */
  open(resync: GrantedResync, events: KeeperEvents): Promise<string>;
  payload(bytes: Uint8Array): void;
  /**
   * Checks, syncs and names the snapshot.
   * @returns where the stream after it stands; undefined where none is kept.
   */
  finish(): Promise<StreamStart | undefined>;
  discard(): void;
  /** True while the link that brings the payload should pause for the disk. */
  readonly congested: boolean;
}

/** Takes the stream after a snapshot. */
export interface StreamKeeper {
  /** The primary continues, under `replid` where that is new. */
  continued(replid: ReplicationId | undefined): void;
  stream(bytes: Uint8Array): void;
  /** Acknowledges once everything up to `offset` is written, or durable with `--ack durable`. */
  acknowledge(offset: Offset): void;
  /** True while the link that brings the stream should pause for the disk. */
  readonly streamCongested: boolean;
}

/** A full resync that a primary granted. */
export interface GrantedResync {
  readonly primary: PrimaryTarget;
  readonly grant: FullSyncGrant;
  readonly form: BulkForm;
  /** Whether the stream comes beside the payload, on a link of its own. */
  readonly beside: boolean;
}

/** What a keeper reports while it writes. */
export interface KeeperEvents {
  /** Bytes that waited for the disk are written: the link may go on. */
  hasRoom(): void;
  /** Writing, syncing or checking failed. */
  failed(error: ReplicaError): void;
}

/** See `Driver.attempt`. */
export type Weigh = (info: string | undefined) => void;

/** What an attempt asks for besides a resync. */
export interface AttemptWishes {
  /**
   * Called with what the primary says in INFO before it is asked for anything that costs it a fork, or with undefined
   * where it doesn't say; throws ReplicaError where that can't be kept. Undefined: it isn't asked.
   */
  readonly weigh?: Weigh | undefined;
  /** See `AttemptTerms`. */
  readonly newerThan?: Offset | undefined;
}

export interface DriverEvents {
  /** The attempt is over, broken off in state `from`. */
  failed(error: ReplicaError, from: State): void;
  /** A keeper failed while no link was there to break. */
  failedUnlinked(error: ReplicaError): void;
  note(level: "info" | "warn", message: string): void;
  moved(state: State): void;
  /** Whether somebody else than the primary waits for the stream, so that it is read as it comes. */
  isAwaited(): boolean;
}

/** The link to the primary, as far as the keeper needs it. */
export interface KeeperLink extends KeeperEvents {
  /** Sends REPLCONF ACK. */
  acknowledge(acked: Offset, durable: Offset): void;
}

/** Those that read the log while it grows. */
export interface LogReaders {
  /** More of the log is written, or another log took its place. */
  moved(): void;
  /** Readers must detach: the log was cut, or its history changed. */
  endAll(reason: string): void;
}
