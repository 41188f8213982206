import type { ReplicaError } from "../../base/errors.ts";
import { usageError } from "../../base/errors.ts";
import { isNamedElsewhere, type PrimarySource } from "../../config/primary-source.ts";
import { describeTarget, type PrimaryTarget } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import { parseInfo } from "../../resp/info-text.ts";
import { failedOnInfo } from "../../session/info-reply.ts";
import type { FullSyncGrant, State } from "../../session/state.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";
import { isSameAddress } from "./other-history.ts";

/** Whom the next attempt follows, and who said so. */
export interface Followed {
  readonly source: PrimarySource;
  readonly target: PrimaryTarget | undefined;
  /** Whether REPLICAOF named it, now or, stored by CONFIG REWRITE, in an earlier process. */
  readonly isOrdered: boolean;
}

export interface OtherPrimaryOptions {
  readonly directory: Pick<DataDirectory, "path" | "current" | "replid"> & {
    readonly holdings: Pick<
      DataDirectory["holdings"],
      "primaryName" | "primaryNames" | "knows" | "isFetched"
    >;
  };
  readonly settings: Pick<Settings, "adopt" | "askPrimary">;
  readonly primary: Followed;
}

/** Of a `replica` that keeps nothing. */
const NO_REPLID = "0".repeat(40);

/** Looks at the primary's INFO before PSYNC; undefined where it gives none. @throws ReplicaError ends the attempt. */
type Weigh = (info: string | undefined) => void;

/**
 * Keeps the history of quite another primary out of a data directory: one that the URL names, at an address that nothing
 * kept came from, and with no replication id in common with what is kept. Whoever repoints a replica that runs (REPLICAOF,
 * Sentinel, a cluster) means it, and so does `--adopt`; a URL may be the wrong one, or the directory.
 */
export class OtherPrimary {
  readonly #options: OtherPrimaryOptions;
  /** INFO was asked and never came: the next attempts go on without. */
  #isMute = false;
  /** What the attempt under way was told by INFO: undefined while nothing. */
  #isKin: boolean | undefined;

  constructor(options: OtherPrimaryOptions) {
    this.#options = options;
  }

  /**
   * Call before an attempt. Where its primary may be another one, INFO is asked before PSYNC, which may cost a fork:
   * after a failover its second replication id alone may show where its history comes from.
   * @param weigh what else looks at INFO.
   * @returns what looks at it; undefined where it needn't be asked.
   */
  weigh(weigh: Weigh | undefined): Weigh | undefined {
    this.#isKin = undefined;
    if (!this.#isInQuestion) return weigh;
    const { askPrimary } = this.#options.settings;
    if (weigh === undefined && (this.#isMute || !askPrimary)) return undefined;
    return (info) => {
      this.#look(info);
      weigh?.(info);
    };
  }

  /** An attempt ended in state `from`. */
  failed(error: ReplicaError, from: State): void {
    if (failedOnInfo(error, from)) this.#isMute = true;
  }

  /** Another primary is followed. */
  forget(): void {
    this.#isMute = false;
  }

  #look(text: string | undefined): void {
    if (text === undefined) return;
    const info = parseInfo(text);
    const replid = info.get("master_replid");
    // One that loads, or isn't supplied yet, has an id for the time being alone: PSYNC is answered with "not now".
    const isReplica = info.get("role") === "slave";
    const isUnsupplied = isReplica && info.get("master_link_status") !== "up";
    if (info.get("loading") === "1" || isUnsupplied || replid === NO_REPLID) return;
    const ids = [replid, info.get("master_replid2")].filter((id) => id !== undefined);
    this.#isKin = ids.some((id) => this.#options.directory.holdings.knows(id));
    // Before Redis 4.0 INFO names none; what PSYNC answers will.
    if (!this.#isKin && replid !== undefined) throw this.#refusal(replid, "");
  }

  /**
   * A full resync is granted, and nothing is changed for it yet.
   * @throws ReplicaError USAGE where it is of another primary.
   */
  refuse(grant: FullSyncGrant): void {
    if (this.#isKin === true || !this.#isInQuestion) return;
    const replid = grant.by === "psync" ? grant.position.replid : undefined;
    if (replid !== undefined && this.#options.directory.holdings.knows(replid)) return;
    const unsure = this.#isKin === undefined ? ", as far as can be told without its INFO" : "";
    throw this.#refusal(replid, unsure);
  }

  /** Whether the URL names an address that nothing kept came from. */
  get #isInQuestion(): boolean {
    const { directory, settings, primary } = this.#options;
    const { source, target, isOrdered } = primary;
    if (settings.adopt || isOrdered || isNamedElsewhere(source)) return false;
    if (directory.current === undefined || target === undefined) return false;
    // What the archive gave to an empty directory stands in no primary's way.
    if (directory.holdings.isFetched) return false;
    return !directory.holdings.primaryNames().some((name) => isSameAddress(name, target));
  }

  #refusal(replid: string | undefined, unsure: string): ReplicaError {
    const { directory, primary } = this.#options;
    const { current, holdings, path } = directory;
    const name = describeTarget(primary.target!);
    const kept = holdings.primaryName ?? current!.primaryName;
    const told = (id: string | undefined) => id ?? "which it doesn't name";
    return usageError(
      `${path} holds the history of ${kept} (${told(directory.replid)}), and ${name} has another one (${told(replid)})${unsure}: follow ${name} with a --dir of its own; if it is to take the place of ${kept} here, give --adopt (generation ${current!.id} then stays, sealed, as long as --keep and --keep-for say)`,
    );
  }
}
