import { rangesWhere, type SlotRange, SLOTS } from "../../cluster/slots/slot-ranges.ts";
import type { RdbHeader } from "../../rdb/header.ts";
import type { Words } from "../../resp/absolute-expiry.ts";
import { findVerb, type Verb } from "../../resp/verbs.ts";
import type { RewriteRule } from "./log-rewriter.ts";
import { migrationOf } from "./migration-commands.ts";
import { sweepCommand } from "./slot-sweep.ts";

/**
 * What streams carry though a stock server of another kind, version or setting ends at start because of it: the
 * commands of migrations, and those that services add ("Alibaba Cloud Tair": OPINFO). None of them changes a key but
 * TRIMSLOTS, and the end of a migration that failed.
 */
const REFUSED: readonly Verb[] = ["CLUSTER", "TRIMSLOTS", "OPINFO"];

/** Whether a log with these verbs has commands that not every server loads. */
export function hasRefusedCommands(verbs: ReadonlySet<Verb>): boolean {
  return REFUSED.some((verb) => verbs.has(verb));
}

/** Leaves out the commands that not every server loads, and keeps their effect. One instance belongs to one log. */
export class RefusedCommands implements RewriteRule {
  /** Whether the snapshot may hold open jobs, whose end only the server that can read it knows how to take. */
  readonly #mayHaveJobs: boolean;
  /** For each slot that is being migrated into this server, by whom. */
  readonly #jobOf = Array<string | undefined>(SLOTS).fill(undefined);
  /** How many commands were left out, and how often the keys of slots are removed in their place. */
  leftOutCommands = 0;
  sweeps = 0;

  /** @param header of the snapshot. */
  constructor({ magic }: Pick<RdbHeader, "magic">) {
    this.#mayHaveJobs = magic === "VALKEY";
  }

  concerns(verb: Verb | undefined): boolean {
    return verb === "CLUSTER" || verb === "TRIMSLOTS" || verb === "OPINFO";
  }

  replace(words: Words): Words[] | undefined {
    const migration = migrationOf(words);
    let swept: readonly SlotRange[] = [];
    switch (migration?.kind) {
      case "trimmed":
        swept = migration.ranges;
        break;
      case "established":
        for (const range of migration.ranges)
          this.#jobOf.fill(migration.job, range[0], range[1] + 1);
        break;
      case "finished": {
        const ranges = this.#end((job) => job === migration.job);
        if (ranges.length === 0 && this.#mayHaveJobs) return undefined;
        if (!migration.ok) swept = ranges;
        break;
      }
      default:
        // Its effect isn't known: the server that loads it decides.
        if (migration === undefined && isTrim(words)) return undefined;
    }
    this.leftOutCommands++;
    return this.#sweep(swept);
  }

  /**
   * What the log needs at its end: the keys that unfinished migrations have brought belong to the server that they come
   * from.
   */
  atEnd(): Words[] {
    return this.#sweep(this.#end((job) => job !== undefined));
  }

  /** Forgets jobs, and returns their slots. */
  #end(isEnded: (job: string | undefined) => boolean): SlotRange[] {
    const ranges = rangesWhere((slot) => isEnded(this.#jobOf[slot]));
    for (const [first, last] of ranges) this.#jobOf.fill(undefined, first, last + 1);
    return ranges;
  }

  #sweep(ranges: readonly SlotRange[]): Words[] {
    if (ranges.length === 0) return [];
    this.sweeps++;
    return [sweepCommand(ranges)];
  }
}

function isTrim([verb]: Words): boolean {
  return verb !== undefined && findVerb(verb, 0, verb.length) === "TRIMSLOTS";
}
