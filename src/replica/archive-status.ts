import type { Archiver } from "../archive/writer/archiver.ts";
import type { ArchiveLag, ArchiverFacts } from "../archive/writer/archiver-status.ts";
import type { Clock } from "../base/clock.ts";
import { formatAge, formatBytes } from "../base/quantity.ts";

/** What is asked of the archiver. */
export type ArchiverView = Pick<Archiver, "facts" | "lag">;

export interface ArchiveStatus extends ArchiverFacts {
  /** How far it is behind; undefined where the database doesn't tell. */
  readonly lag: ArchiveLag | undefined;
  /** False while it gets nothing: each try fails, or the current generation was given up. */
  readonly isUp: boolean;
  /** How it stands, in words: `archiving`, `behind by 5 min: …`, `failing since …: …`, `stopped for generation 3: …`. */
  readonly text: string;
}

/** How old a lag may be. INFO may come a thousand times a second, and each look asks the database. */
const FRESH_MS = 1000;

/** A mark may be a second old, and an object is on its way for some more. */
const USUAL_LAG_MS = 10_000;

/** What is known of the lag. */
type Known = { readonly lag: ArchiveLag } | { readonly lag: undefined; readonly why: string };

/** Tells how the archive stands. Nothing here throws: a database that fails must not break an INFO. */
export class ArchiveReport {
  readonly #archiver: ArchiverView;
  readonly #clock: Clock;
  #known: Known | undefined;
  #askedMs = 0;

  constructor(archiver: ArchiverView, clock: Clock) {
    this.#archiver = archiver;
    this.#clock = clock;
  }

  get status(): ArchiveStatus {
    const { facts } = this.#archiver;
    const known = this.#lag();
    return {
      ...facts,
      lag: known.lag,
      isUp: facts.error === undefined && known.lag?.stoppedCurrent === undefined,
      text: `${standing(facts, known)}${givenUp(facts, known.lag)}`,
    };
  }

  /**
   * Why the replica counts as not ready: the oldest durable byte that the archive lacks is older than `mostMs`, or that
   * can't be known. Undefined where it is ready.
   */
  whyNotReady(mostMs: number): string | undefined {
    const known = this.#lag();
    if (known.lag === undefined) return unknown(known.why);
    const { lagMs, lagBaseBytes } = known.lag;
    if (lagMs <= mostMs) return undefined;
    const { facts } = this.#archiver;
    const late = `the archive lacks what became durable ${formatAge(lagMs / 1000)} ago`;
    const trouble = troubleOf(facts, known.lag);
    if (trouble !== undefined) return `${late}; it is ${trouble}`;
    // Nothing of a generation can be restored before its base is whole.
    const isBase = facts.archivedOffset === undefined && lagBaseBytes > 0;
    return isBase
      ? `${late}: ${formatBytes(lagBaseBytes)} of snapshots are still to be sent`
      : late;
  }

  #lag(): Known {
    const nowMs = this.#clock.monotonicMs();
    if (this.#known === undefined || nowMs - this.#askedMs >= FRESH_MS) {
      this.#known = this.#ask();
      this.#askedMs = nowMs;
    }
    return this.#known;
  }

  #ask(): Known {
    try {
      return { lag: this.#archiver.lag() };
    } catch (error) {
      return { lag: undefined, why: error instanceof Error ? error.message : String(error) };
    }
  }
}

function unknown(why: string): string {
  return `how far the archive is behind is not known: ${why}`;
}

/** Why the archive gets nothing; undefined where it does, as far as is known. */
function troubleOf(
  { error, failingSinceMs, stopped }: ArchiverFacts,
  lag: ArchiveLag | undefined,
): string | undefined {
  if (error !== undefined && failingSinceMs !== undefined) {
    return `failing since ${new Date(failingSinceMs).toISOString()}: ${error.message}`;
  }
  const id = lag?.stoppedCurrent;
  if (id === undefined) return undefined;
  return `stopped for generation ${id}: ${stopped.get(id)?.message ?? "it was given up"}`;
}

function standing(facts: ArchiverFacts, known: Known): string {
  const trouble = troubleOf(facts, known.lag);
  if (trouble !== undefined) return trouble;
  if (known.lag === undefined) return unknown(known.why);
  const { lagMs, lagBytes, lagBaseBytes } = known.lag;
  const snapshots = `${formatBytes(lagBaseBytes)} of snapshots`;
  if (lagMs > facts.everyMs + USUAL_LAG_MS) {
    const bases = lagBaseBytes === 0 ? "" : ` and ${snapshots}`;
    const left = `${formatBytes(lagBytes)} of log${bases}`;
    return `behind by ${formatAge(lagMs / 1000)}: ${left} are still to be sent`;
  }
  if (lagBaseBytes > 0) return `archiving: ${snapshots} are still to be sent`;
  const hasNothing = facts.generation === undefined && lagBytes === 0;
  return hasNothing ? "waiting for a generation" : "archiving";
}

/** The generations that were given up and are sealed: they never come, and what is newer does. */
function givenUp({ stopped }: ArchiverFacts, lag: ArchiveLag | undefined): string {
  const ids = [...stopped.keys()].filter((id) => id !== lag?.stoppedCurrent);
  if (ids.length === 0) return "";
  return `; given up: ${ids.length === 1 ? "generation" : "generations"} ${ids.join(", ")}`;
}
