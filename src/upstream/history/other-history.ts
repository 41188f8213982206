import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Position, ReplicationId } from "../../base/history.ts";
import { logger } from "../../base/logger.ts";
import { formatAge } from "../../base/quantity.ts";
import { describeTarget, parsePrimaryUrl, type PrimaryTarget } from "../../config/primary-url.ts";
import type { DataDirectory } from "../../store/generation/data-directory.ts";

/** Asks a primary for INFO. @throws ReplicaError where it gives none. */
export type AskInfo = (target: PrimaryTarget) => Promise<ReadonlyMap<string, string>>;

/** A full resync whose history is not the one that is kept. */
export interface ChangedHistory {
  /** The primary that the kept stream came from last, as a URL; its history, and up to where it is kept. */
  readonly before: { readonly name: string } & Position;
  /** The generation that is sealed by it. */
  readonly generation: number;
  /** The time of the last mark, in milliseconds since 1970. */
  readonly lastMs: number;
  readonly target: PrimaryTarget;
  readonly replid: ReplicationId;
  /** Whether the kept stream was ever in a history. */
  readonly knows: (replid: string) => boolean;
}

/** What the primary says of itself: its INFO, or why it gave none. */
export type Words = ReadonlyMap<string, string> | ReplicaError;

/** What is seen, in one line. Only `another` needs a person. */
export interface Verdict {
  readonly kind: "same-address" | "descendant" | "another";
  readonly text: string;
}

/** An uptime is the difference of two times that were cut to whole seconds. */
const UPTIME_ERROR_MS = 1_000;

const RESTARTED = "was restarted without its history";
const RENEWED = "began a new one itself (REPLICAOF, or no replica for repl-backlog-ttl)";
const REPLACED = "another server has its address";

/**
 * Tells a primary that lost its history from one that took another's place, and from quite another one, as far as
 * the facts allow: the address, the replication ids, and since when the process runs.
 * @param nowMs milliseconds since 1970, when it was asked.
 */
export function judge(changed: ChangedHistory, words: Words, nowMs: number): Verdict {
  const { before, generation, target, replid, knows } = changed;
  const name = describeTarget(target);
  const info = words instanceof ReplicaError ? undefined : words;
  const kept = `the one kept up to offset ${before.offset} (${before.replid})`;
  if (knows(replid)) {
    const text = `${name} is in a history (${replid}) that ${kept} comes from`;
    return { kind: "descendant", text };
  }
  const second = info?.get("master_replid2");
  if (second !== undefined && knows(second)) {
    const text = `${name} was promoted, or restarted with its data: its history (${replid}) comes from ${kept}, by its second replication id`;
    return { kind: "descendant", text };
  }
  if (isSameAddress(before.name, target)) {
    const text = `${name} has another history (${replid}) than ${kept}: ${sinceWhen(changed, info, nowMs)}`;
    return { kind: "same-address", text };
  }
  const unsure = words instanceof ReplicaError ? `, as far as can be told (${words.message})` : "";
  const text = `another primary's history replaces the one that was kept${unsure}: generation ${generation} came from ${before.name} (${before.replid}), this full resync comes from ${name} (${replid}); if that isn't meant, stop this replica and follow ${name} with a --dir of its own; generation ${generation} stays, sealed, as long as --keep and --keep-for say`;
  return { kind: "another", text };
}

/** How long the process at the address has been up, and what that says. */
function sinceWhen(
  { lastMs }: ChangedHistory,
  info: ReadonlyMap<string, string> | undefined,
  nowMs: number,
): string {
  const uptime = info?.get("uptime_in_seconds") ?? "";
  if (!/^\d{1,12}$/.test(uptime)) return `it ${RESTARTED}, ${RENEWED}, or ${REPLACED}`;
  const began = nowMs - Number(uptime) * 1000;
  const ran = `it has been up for ${formatAge(Number(uptime))}`;
  if (began - UPTIME_ERROR_MS > lastMs) return `${ran}, so it ${RESTARTED}, or ${REPLACED}`;
  if (began + UPTIME_ERROR_MS < lastMs) {
    return `${ran}, since before the last byte that is kept, so it ${RENEWED}, or ${REPLACED}`;
  }
  return `${ran}: it ${RESTARTED}, ${RENEWED}, or ${REPLACED}`;
}

/**
 * Compares hosts and ports, or sockets; the user and TLS don't matter.
 * @param name a primary's URL as it is kept; one that can't be read is no address.
 */
export function isSameAddress(name: string, target: PrimaryTarget): boolean {
  let before: PrimaryTarget;
  try {
    before = parsePrimaryUrl(name);
  } catch {
    return false;
  }
  if (before.kind === "unix" || target.kind === "unix") {
    return before.kind === "unix" && target.kind === "unix" && before.path === target.path;
  }
  return before.host.toLowerCase() === target.host.toLowerCase() && before.port === target.port;
}

/** Looks into each full resync whose history is not the one that is kept, and tells what it finds. */
export class OtherHistory {
  readonly #directory: DataDirectory;
  readonly #clock: Clock;
  readonly #ask: AskInfo;
  /** The last one that was looked into: attempts that fail get the same full resync again. */
  #seen = "";
  #last: { readonly text: string; readonly atMs: number } | undefined;

  constructor(directory: DataDirectory, clock: Clock, ask: AskInfo) {
    this.#directory = directory;
    this.#clock = clock;
    this.#ask = ask;
  }

  /** The last time that quite another primary's history came, since the start; milliseconds since 1970. */
  get last(): { readonly text: string; readonly atMs: number } | undefined {
    return this.#last;
  }

  /** Looks into a full resync that was granted; what it finds is logged once the primary has said what it is. */
  async look(before: Position, target: PrimaryTarget, replid: ReplicationId): Promise<void> {
    const { current, holdings } = this.#directory;
    const seen = `${describeTarget(target)} ${replid} ${before.replid}`;
    if (current === undefined || seen === this.#seen) return;
    this.#seen = seen;
    try {
      const lineage = this.#directory.lineage();
      const changed = {
        before: { name: holdings.primaryName ?? current.primaryName, ...before },
        generation: current.id,
        lastMs: holdings.lastMs ?? 0,
        target,
        replid,
        knows: (id: string) => lineage.knows(id),
      };
      this.#tell(judge(changed, await this.#words(target), this.#clock.now()));
    } catch (error) {
      logger.warn(error instanceof Error ? error.message : String(error));
    }
  }

  async #words(target: PrimaryTarget): Promise<Words> {
    try {
      return await this.#ask(target);
    } catch (error) {
      if (error instanceof ReplicaError) return error;
      throw error;
    }
  }

  #tell({ kind, text }: Verdict): void {
    if (kind !== "another") return logger.info(text);
    this.#last = { text, atMs: this.#clock.now() };
    logger.warn(text);
    this.#directory.note("other-history", text);
  }
}
