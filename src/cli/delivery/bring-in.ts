import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import type { Settings } from "../../config/settings.ts";
import {
  deliver,
  type DeliverOptions,
  lookAhead,
  type LookOptions,
  type Told,
} from "../../inspect/deliver/deliver.ts";
import { type DeliveredEntry, payloadBytes } from "../../inspect/deliver/entry.ts";
import type { Outcome } from "../../inspect/deliver/parcel.ts";
import { Survey } from "../../inspect/deliver/survey.ts";
import type { Target } from "../../inspect/deliver/target.ts";
import type { Output } from "../terminal/output.ts";
import { Progress } from "../terminal/progress.ts";
import {
  type DeliveryMoment,
  type DeliveryReport,
  deliveryToJson,
  describeDelivery,
  KeysTold,
  MAX_NAMED,
  toldToJson,
} from "./delivery-report.ts";
import type { IntoWanted } from "./into-wanted.ts";
import { keyRow, keyRowToJson, keyTitles, prospectOf } from "./key-rows.ts";

/** The keys that are to be brought in, readable more than once, each time in the same order. */
export interface ChosenSource {
  entries(): AsyncIterable<DeliveredEntry>;
  /** The patterns that nothing matched in what was read so far. */
  readonly unmet: readonly string[];
}

export interface BringInContext {
  readonly clock: Clock;
  readonly settings: Settings;
  readonly signal: AbortSignal;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Called once every server has been asked; what it throws ends this before anything is written. */
  readonly beforeWriting: (() => Promise<void>) | undefined;
}

/**
 * Brings chosen keys into a target, or lists them, and reports what was done.
 * @returns the exit code.
 * @throws ReplicaError why it ended before the last key, once that is reported; USAGE where nothing was written;
 * KEYS_NOT_FOUND.
 */
export async function bringIn(
  target: Target,
  chosen: ChosenSource,
  moment: DeliveryMoment,
  wanted: IntoWanted,
  context: BringInContext,
): Promise<number> {
  const survey = await Survey.of(chosen.entries(), context.signal);
  for (const pattern of chosen.unmet) logger.warn(`no key matches ${JSON.stringify(pattern)}`);
  if (survey.keys === 0) throw noneFound(moment);
  for (const warning of await target.prepare(survey, wanted.replace)) logger.warn(warning);
  await context.beforeWriting?.();
  const progress = new Progress({
    output: context.stderr,
    // The rows of a dry run are progress enough, and share the terminal.
    enabled: context.settings.progress && !(wanted.isDryRun && context.stdout.isTty),
  });
  if (survey.bytes >= WORTH_BYTES) progress.begin(`into ${target.address}`, survey.bytes);
  try {
    const told = new KeysTold();
    const bring = wanted.isDryRun ? list : send;
    const done = await bring({ target, chosen, survey, wanted, context, told, progress });
    progress.end();
    if (done.breaks > 0 && done.error === undefined && !(await target.isSame())) {
      logger.warn(
        "the link broke, and another server may answer since: what the one before had confirmed may be missing there; run this again, what is there stays",
      );
    }
    report({ moment, ...done, ...about(target, survey, wanted) }, told, wanted, context);
    if (done.error !== undefined) throw done.error;
    return done.counts.failed > 0 ? 1 : 0;
  } finally {
    progress.end();
  }
}

function noneFound({ offset }: DeliveryMoment): ReplicaError {
  return new ReplicaError("KEYS_NOT_FOUND", {
    retry: "never",
    message: `at offset ${offset}, no key matches: try another pattern or database, or an earlier moment; nothing was written`,
  });
}

/** Less is done before anybody has read the line. */
const WORTH_BYTES = 16 * 1024 * 1024;

interface Work {
  readonly target: Target;
  readonly chosen: ChosenSource;
  readonly survey: Survey;
  readonly wanted: IntoWanted;
  readonly context: BringInContext;
  readonly told: KeysTold;
  readonly progress: Progress;
}

type Done = Pick<DeliveryReport, "counts" | "uncertain" | "bytes" | "breaks" | "error">;

async function send({ chosen, survey, wanted, told, ...work }: Work): Promise<Done> {
  const { isJson, replace } = wanted;
  const rows = new Rows(work.context.stdout);
  const onKey = (key: Told) => {
    told.add(key);
    if (isJson) rows.add(toldToJson(key));
  };
  const options: DeliverOptions = {
    ...waysOf(work),
    survey,
    replace,
    maxLeftTold: isJson ? Infinity : MAX_NAMED,
    onKey,
  };
  try {
    return await deliver(chosen.entries(), options);
  } finally {
    rows.flush();
  }
}

async function list({ chosen, wanted, ...work }: Work): Promise<Done> {
  const { isJson, replace } = wanted;
  const { clock, stdout } = work.context;
  const counts: Record<Outcome, number> = {
    restored: 0,
    replaced: 0,
    existed: 0,
    expired: 0,
    failed: 0,
    left: 0,
  };
  let bytes = 0;
  const rows = new Rows(stdout);
  if (!isJson) rows.add(keyTitles());
  const onKey: LookOptions["onKey"] = (entry, state) => {
    const prospect = prospectOf(state, replace);
    const outcome = OUTCOMES[prospect];
    counts[outcome]++;
    if (prospect === "restore" || prospect === "replace") bytes += payloadBytes(entry);
    const nowMs = clock.now();
    rows.add(isJson ? keyRowToJson(entry, state, prospect, nowMs) : keyRow(entry, prospect, nowMs));
  };
  try {
    await lookAhead(chosen.entries(), { ...waysOf(work), onKey });
  } finally {
    rows.flush();
  }
  return { counts, uncertain: 0, bytes, breaks: 0, error: undefined };
}

/** A write for each of millions of rows would take longer than all else. */
const ROWS_CHARACTERS = 32 * 1024;

/** Rows on their way to standard output, some at a time. */
class Rows {
  readonly #output: Output;
  #text = "";

  constructor(output: Output) {
    this.#output = output;
  }

  add(row: string): void {
    this.#text += row;
    if (this.#text.length >= ROWS_CHARACTERS) this.flush();
  }

  flush(): void {
    const text = this.#text;
    this.#text = "";
    if (text !== "") this.#output.write(text);
  }
}

const OUTCOMES = {
  restore: "restored",
  replace: "replaced",
  keep: "existed",
  expired: "expired",
} as const;

function waysOf({ target, context, progress }: Pick<Work, "target" | "context" | "progress">) {
  const { clock, signal, settings } = context;
  const { timeoutMs, retryMaxMs } = settings;
  return {
    target,
    clock,
    signal,
    timeoutMs,
    retryMaxMs,
    onProgress: (bytes: number) => progress.update(bytes),
    onTrouble: (why: string) =>
      logger.warn(`${why}; trying again for up to ${timeoutMs / 1000} s (--timeout)`),
  };
}

function about(target: Target, survey: Survey, { isDryRun, replace }: IntoWanted) {
  const { name, facts } = target;
  return { target: name, server: facts.server, isDryRun, replace, found: survey.keys };
}

function report(
  done: DeliveryReport,
  told: KeysTold,
  { isJson }: IntoWanted,
  { stdout }: BringInContext,
): void {
  stdout.write(isJson ? deliveryToJson(done) : describeDelivery(done, told));
}
