import type { ReplicaError } from "../../base/errors.ts";
import { counted, formatAge, formatBytes } from "../../base/quantity.ts";
import type { CostlyPhase, ResyncFigures } from "./breaks.ts";
import type { Answer, BufferLimit, PrimaryFacts } from "./primary-facts.ts";

/** Blocks of a primary's output buffers have 16 KiB, and a few may be half full ("Redis 7.0, replication.c"). */
const BLOCK_BYTES = 64 * 1024;

/** A break that cost the primary a fork, or may have. */
export interface CostlyBreak {
  readonly phase: CostlyPhase;
  readonly error: ReplicaError;
  readonly seen: ResyncFigures;
}

/** What is known of the primary around a break. */
export interface Evidence {
  /** What it said while the link held; undefined where it said nothing. */
  readonly before: { readonly facts: PrimaryFacts; readonly agoMs: number } | undefined;
  /** What it says now; undefined where it wasn't asked. */
  readonly now: Answer | undefined;
  /** Its limit for the output buffers of replicas; undefined where it doesn't tell. */
  readonly limit: BufferLimit | undefined;
  /** --rdb-for as it was given, where it asks Valkey for an older form than its own. */
  readonly olderForm?: string | undefined;
}

/**
 * What the figures say about a break: a cause only where they bear it out, else what is ruled out and where to look.
 * @param broken a link that was lost or timed out; any other error is its own cause.
 */
export function explainBreak(broken: CostlyBreak, evidence: Evidence): string {
  const { before, now, limit, olderForm } = evidence;
  if (now === undefined || now.kind === "refused") {
    const known = "it isn't asked, or doesn't answer INFO to this login";
    return `the primary's log may say why (${known})${formDoubt(broken.phase, olderForm)}`;
  }
  if (now.kind === "away") {
    return now.error.code === "CONNECT_FAILED" || now.error.code === "LINK_LOST"
      ? `no other link to it can be opened now either: ${now.error.message}`
      : `on another link it doesn't answer either: ${now.error.message}`;
  }
  const { facts } = now;
  const change = before && describeChange(before.facts, facts, before.agoMs);
  if (change !== undefined) return change;
  if (before === undefined && startedSince(facts, broken.seen.seconds)) {
    return `the primary was restarted: it has been up for ${formatAge(facts.uptimeSeconds!)}`;
  }
  if (broken.error.code === "TIMED_OUT") return explainSilence(broken, facts);
  return (
    formCause(broken.phase, facts.fieldExpiries, olderForm) ??
    bufferCause(broken.seen, before?.facts, facts, limit) ??
    snapshotCause(broken.phase, before?.facts, facts) ??
    ruledOut(broken.seen, before?.facts, facts, limit)
  );
}

/**
 * Says that another process answers now than before: the primary was restarted, or another server took its address.
 * Undefined where it is the same one, or that isn't known.
 * @param agoMs how long ago `before` was said.
 */
export function describeChange(
  before: PrimaryFacts,
  now: PrimaryFacts,
  agoMs: number,
): string | undefined {
  if (before.runId === "" || now.runId === "" || before.runId === now.runId) return undefined;
  const up =
    now.uptimeSeconds === undefined ? "" : `: it has been up for ${formatAge(now.uptimeSeconds)}`;
  // A second is the precision of an uptime.
  const isYoung = startedSince(now, agoMs / 1000 + 1);
  if (isYoung) return `the primary was restarted${up}`;
  return `another server answers at the primary's address now${up}`;
}

function startedSince({ uptimeSeconds }: PrimaryFacts, seconds: number): boolean {
  return uptimeSeconds !== undefined && uptimeSeconds < seconds;
}

function explainSilence({ phase, seen }: CostlyBreak, facts: PrimaryFacts): string {
  const { lastForkMs = 0 } = facts;
  if (phase === "receive-psync" && lastForkMs > (seen.seconds * 1000) / 2) {
    return `its last fork took ${(lastForkMs / 1000).toFixed(1)} s: raise --sync-timeout`;
  }
  const saving = facts.isSaving ? ", and its snapshot is still under way" : "";
  return `on another link the primary answers${saving}: raise --timeout if it needs this long`;
}

/** How much of the stream waited there for this link, by now at the most. */
function waitingBytes(seen: ResyncFigures, facts: PrimaryFacts): number | undefined {
  if (seen.offset === undefined || facts.offset === undefined) return undefined;
  return Math.max(0, facts.offset - seen.offset);
}

/** The output buffer's limit, where the primary counted such a break, or as much as that waited there. */
function bufferCause(
  seen: ResyncFigures,
  before: PrimaryFacts | undefined,
  facts: PrimaryFacts,
  limit: BufferLimit | undefined,
): string | undefined {
  const waiting = waitingBytes(seen, facts);
  const name = "client-output-buffer-limit replica";
  const waited = waiting === undefined ? "" : `${formatBytes(waiting)} of the stream waited there`;
  const [earlier, later] = [before?.bufferDisconnections, facts.bufferDisconnections];
  if (later !== undefined && earlier !== undefined) {
    // It counts each client that it closes for that: one more is evidence, unless too little waited for this link.
    if (later <= earlier || !isPast(waiting ?? Infinity, leastLimit(limit, facts)))
      return undefined;
    const much = waited === "" ? "" : `${waited}, and `;
    return `${much}it closed a client for its output buffer: raise ${name} there`;
  }
  if (limit === undefined || waiting === undefined) return undefined;
  const { softBytes, softSeconds } = limit;
  const hardBytes = hardLimit(limit, facts);
  const isHard = hardBytes > 0 && isPast(waiting, hardBytes);
  const isSoft = softBytes > 0 && isPast(waiting, softBytes) && seen.seconds >= softSeconds;
  if (!isHard && !isSoft) return undefined;
  const past = isHard ? formatBytes(hardBytes) : `${formatBytes(softBytes)} for ${softSeconds} s`;
  return `${waited}, past its limit of ${past}: raise ${name} there`;
}

/** Whether so much waited; the primary counts whole blocks of its buffer. */
function isPast(waitingBytes: number, limitBytes: number): boolean {
  return waitingBytes * 1.05 + BLOCK_BYTES >= limitBytes;
}

/** The smaller one of the two limits; 0 where there is none, or it isn't known. */
function leastLimit(limit: BufferLimit | undefined, facts: PrimaryFacts): number {
  if (limit === undefined) return 0;
  const set = [hardLimit(limit, facts), limit.softBytes].filter((bytes) => bytes > 0);
  return set.length === 0 ? 0 : Math.min(...set);
}

/** A limit below the backlog's size counts as that size ("Redis 7.0, networking.c, checkClientOutputBufferLimits"). */
function hardLimit({ hardBytes }: BufferLimit, { backlogBytes }: PrimaryFacts): number {
  return hardBytes === 0 ? 0 : Math.max(hardBytes, backlogBytes);
}

/**
 * The data that no older form of a snapshot holds: Valkey 9.0 and later begin one all the same, and break it off ("Valkey
 * 9.1": "Can't store key in RDB version 11").
 * @param fieldExpiries how many keys have hash fields with an expiry.
 * @param olderForm --rdb-for as it was given, where it asks for such a form.
 */
export function formCause(
  phase: CostlyPhase,
  fieldExpiries: number,
  olderForm: string | undefined,
): string | undefined {
  const isBuilding = phase === "receive-bulk-header" || phase === "transfer";
  if (!isBuilding || olderForm === undefined || fieldExpiries === 0) return undefined;
  return `it can't write its data in the form that --rdb-for ${olderForm} asks for: ${counted(fieldExpiries, "key")} there ${fieldExpiries === 1 ? "has" : "have"} hash fields with an expiry, which only the form of Valkey 9.0 and later holds: leave out --rdb-for, or remove those expiries (HPERSIST)`;
}

/** The same where it doesn't say whether it has such data. */
export function formDoubt(phase: CostlyPhase, olderForm: string | undefined): string {
  if (olderForm === undefined || phase === "receive-psync" || phase === "connected") return "";
  return `; with --rdb-for ${olderForm} a Valkey breaks off like this if hash fields there have an expiry`;
}

/** The snapshot's own failure, which a primary tells of one that it writes to its disk first. */
function snapshotCause(
  phase: CostlyPhase,
  before: PrimaryFacts | undefined,
  facts: PrimaryFacts,
): string | undefined {
  const isBuilding = phase === "receive-bulk-header" || phase === "transfer";
  if (!isBuilding || !facts.lastSaveFailed) return undefined;
  // One that failed before this link was there is no news.
  if (before?.lastSaveFailed === true && phase === "transfer") return undefined;
  return "its snapshot failed there (rdb_last_bgsave_status:err): its log says why";
}

/** What it wasn't, as far as the figures say so, and where to look. */
function ruledOut(
  seen: ResyncFigures,
  before: PrimaryFacts | undefined,
  facts: PrimaryFacts,
  limit: BufferLimit | undefined,
): string {
  const buffer = bufferRuledOut(seen, before, facts, limit);
  const also = buffer === undefined ? "" : `, and ${buffer}`;
  return `the primary was not restarted${also}: its log says why it closed the link`;
}

/** Why its output buffer is no likely cause; undefined where nothing says so. */
function bufferRuledOut(
  seen: ResyncFigures,
  before: PrimaryFacts | undefined,
  facts: PrimaryFacts,
  limit: BufferLimit | undefined,
): string | undefined {
  const waiting = waitingBytes(seen, facts);
  const hardBytes = limit === undefined ? 0 : hardLimit(limit, facts);
  // What has come since the break is counted too.
  if (waiting !== undefined && (hardBytes === 0 || waiting <= hardBytes)) {
    const of = hardBytes === 0 ? "" : ` (its limit is ${formatBytes(hardBytes)})`;
    return `at most ${formatBytes(waiting)} of the stream waited there${of}`;
  }
  const [earlier, later] = [before?.bufferDisconnections, facts.bufferDisconnections];
  const closedNone = earlier !== undefined && later !== undefined && later <= earlier;
  return closedNone ? "it closed no client for its output buffer" : undefined;
}
