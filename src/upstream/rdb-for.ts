import { ReplicaError } from "../base/errors.ts";
import type { Position } from "../base/history.ts";
import { logger } from "../base/logger.ts";
import type { Settings } from "../config/settings.ts";
import type { RdbHeader } from "../rdb/header.ts";
import { formatOf, serverOf } from "../rdb/made-by.ts";
import { loadersOf, loadsRdb, releaseName } from "../rdb/releases.ts";
import { parseInfo } from "../resp/info-text.ts";
import { failedOnInfo } from "../session/info-reply.ts";
import type { State } from "../session/state.ts";
import { olderForm } from "./driver-options.ts";
import { formCause, formDoubt } from "./link/causes.ts";
import { countFieldExpiries } from "./link/primary-facts.ts";
import { readPrimarySize } from "./room/primary-size.ts";

/** Warns of a snapshot that the server of --rdb-for can't load: it is kept as it came. */
export function warnOfForm(header: RdbHeader, { rdbFor }: Pick<Settings, "rdbFor">): void {
  if (rdbFor === undefined || loadsRdb(rdbFor, header)) return;
  const by = serverOf(header) ?? "the primary";
  logger.warn(
    `the snapshot is ${formatOf(header)}, which ${releaseName(rdbFor)} can't load (${loadersOf(header)} can): ${by} doesn't write the form that --rdb-for ${rdbFor.text} asks for; it is kept as it came`,
  );
}

/** Looks at the primary's INFO before PSYNC; undefined where it gives none. @throws ReplicaError ends the attempt. */
type Weigh = (info: string | undefined) => void;

/**
 * Asks a primary for no snapshot that it can't write in the form of --rdb-for: it would begin it all the same, with a fork, and
 * break it off where it comes to such data.
 */
export class SnapshotForm {
  readonly #olderForm: string | undefined;
  readonly #asks: boolean;
  /** INFO was asked and never came: the next attempts go on without. */
  #isMute: boolean;

  constructor(settings: Pick<Settings, "rdbFor" | "askPrimary">) {
    this.#olderForm = olderForm(settings);
    this.#asks = settings.askPrimary;
    this.#isMute = !this.#asks;
  }

  /**
   * Call before an attempt.
   * @param resume what it asks to resume from: where the primary is likely to continue, no snapshot is asked for.
   * @param weigh what else looks at INFO.
   * @returns what looks at it; undefined where it needn't be asked.
   */
  weigh(resume: Position | undefined, weigh?: Weigh): Weigh | undefined {
    const form = this.#olderForm;
    if (form === undefined || (weigh === undefined && this.#isMute)) return weigh;
    return (info) => {
      weigh?.(info);
      if (info !== undefined) refuseForm(info, resume, form);
    };
  }

  /** An attempt ended in state `from`. */
  failed(error: ReplicaError, from: State): void {
    if (failedOnInfo(error, from)) this.#isMute = true;
  }

  /** Another primary is followed. */
  forget(): void {
    this.#isMute = !this.#asks;
  }
}

function refuseForm(text: string, resume: Position | undefined, form: string): void {
  if (resume !== undefined && readPrimarySize(text, resume).continues !== false) return;
  const cause = formCause("receive-bulk-header", countFieldExpiries(parseInfo(text)), form);
  if (cause === undefined) return;
  throw new ReplicaError("PRIMARY_REFUSED", {
    message: `the primary is asked for no snapshot: ${cause}`,
  });
}

/** Adds to a break over a link of its own what --rdb-for may have to do with it, where nothing tells. */
export function withForm(
  error: ReplicaError,
  { at }: State,
  settings: Pick<Settings, "rdbFor">,
): ReplicaError {
  const isBuilding = at === "receive-bulk-header" || at === "transfer";
  if (!isBuilding || error.code !== "LINK_LOST") return error;
  const doubt = formDoubt(at, olderForm(settings));
  if (doubt === "") return error;
  const { code, retry, message } = error;
  return new ReplicaError(code, { retry, message: message + doubt, cause: error });
}
