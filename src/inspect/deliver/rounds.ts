import { backoffMs, type Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Reply } from "../../resp/reply-reader.ts";
import type { Parcel } from "./parcel.ts";
import { Pipeline } from "./pipeline.ts";
import { readRefusal } from "./refusals.ts";
import { noDatabase, type Target } from "./target.ts";
import type { TargetLink } from "./target-link.ts";

/** One command for each of many parcels, and what its answers mean. */
export interface Step {
  /** For the right that may be missing. */
  readonly command: string;
  encode(parcel: Parcel, pipeline: Pipeline): void;
  /** It is answered without an error. */
  done(parcel: Parcel, reply: Reply): void;
  /** `BUSYKEY`. */
  exists(parcel: Parcel): void;
  /** Its value is refused. */
  failed(parcel: Parcel, why: string): void;
  /** It was sent, and the link broke before the answer. */
  uncertain(parcel: Parcel): void;
}

export interface RoundsOptions {
  readonly target: Target;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** How long the target may be away, or refuse for now; milliseconds. */
  readonly timeoutMs: number;
  /** The longest pause between two attempts; milliseconds. */
  readonly retryMaxMs: number;
  /** Told once for each time that the target goes away. */
  readonly onTrouble: (why: string) => void;
}

/** What one parcel was answered; `broken` where nothing came. */
type Answer = { readonly parcel: Parcel; readonly link: TargetLink | undefined } & (
  { readonly reply: Reply } | { readonly broken: ReplicaError; readonly wasSent: boolean }
);

/** The errors that no second attempt mends. */
const FINAL = new Set(["AUTH_FAILED", "TLS_FAILED", "USAGE", "PROTOCOL", "STOPPED"]);

/** Sends commands until each is answered: over new connections, to other nodes, and after a pause where one says "not now". */
export class Rounds {
  readonly #options: RoundsOptions;
  /** How many times a link broke, or whoever answered was no primary any more. */
  breaks = 0;
  /** Attempts in a row that settled nothing. */
  #failures = 0;
  #troubleSinceMs: number | undefined;

  constructor(options: RoundsOptions) {
    this.#options = options;
  }

  /**
   * Takes a step with every parcel.
   * @throws ReplicaError once it can't go on; what was answered by then is done.
   */
  async take(parcels: readonly Parcel[], step: Step): Promise<void> {
    const { signal } = this.#options;
    for (let pending = parcels; pending.length > 0;) {
      const answers = await this.#send(pending, step);
      const { again, why, stop } = this.#read(answers, step);
      if (stop !== undefined) throw stop;
      if (again.length > 0) signal.throwIfAborted();
      if (again.length < pending.length) this.#recovered();
      // Redirected alone: the way is known now, or is found out by the next attempt.
      if (again.length > 0 && (why !== undefined || again.length === pending.length)) {
        await this.#pause(why);
      }
      pending = again;
    }
  }

  async #send(parcels: readonly Parcel[], step: Step): Promise<Answer[]> {
    const { target, signal } = this.#options;
    const ways = await target.routes.ways(parcels, signal);
    const answers = await Promise.all(
      ways.map(async (way) => {
        if ("link" in way) return await this.#sendOver(way.link, way.parcels, step);
        const { broken } = way;
        return way.parcels.map((parcel): Answer => ({
          parcel,
          link: undefined,
          broken,
          wasSent: false,
        }));
      }),
    );
    return answers.flat();
  }

  /** One database after the other: what comes after a SELECT that is refused would go to another one. */
  async #sendOver(link: TargetLink, parcels: readonly Parcel[], step: Step): Promise<Answer[]> {
    const { target } = this.#options;
    const answers: Answer[] = [];
    for (const [db, those] of Map.groupBy(parcels, ({ entry }) => entry.db)) {
      if (link.db !== db) {
        const select = new Pipeline();
        select.add(["SELECT", db]);
        const { replies, broken } = await link.exchange(select.end(), 1);
        const [reply] = replies;
        if (reply?.isError === true) {
          const error = noDatabase(link, db, reply.text, target.user);
          answers.push(...those.map((parcel) => unsent(parcel, link, error)));
          continue;
        }
        if (broken !== undefined) {
          answers.push(...those.map((parcel) => unsent(parcel, link, broken)));
          continue;
        }
        link.db = db;
      }
      answers.push(...(await this.#pipe(link, those, step)));
    }
    return answers;
  }

  async #pipe(link: TargetLink, parcels: readonly Parcel[], step: Step): Promise<Answer[]> {
    const pipeline = new Pipeline();
    // Where in the replies each parcel's is: an ASKING has one of its own.
    const places: number[] = [];
    let count = 0;
    for (const parcel of parcels) {
      if (parcel.askAt !== undefined) {
        pipeline.add(["ASKING"]);
        count++;
      }
      step.encode(parcel, pipeline);
      places.push(count++);
    }
    const { replies, broken, wasSent } = await link.exchange(pipeline.end(), count);
    return parcels.map((parcel, index): Answer => {
      const reply = replies[places[index]!];
      if (reply !== undefined) return { parcel, link, reply };
      // Without an error an exchange brings all of them.
      return { parcel, link, broken: broken ?? lost(link), wasSent };
    });
  }

  /** Settles what is answered; returns what is to be sent again, why, and whether to stop. */
  #read(answers: readonly Answer[], step: Step) {
    const { target } = this.#options;
    const again: Parcel[] = [];
    let why: ReplicaError | string | undefined;
    let stop: ReplicaError | undefined;
    const broke = new Set<TargetLink>();
    for (const answer of answers) {
      const { parcel, link } = answer;
      if ("broken" in answer) {
        if (answer.wasSent) step.uncertain(parcel);
        const { broken } = answer;
        if (link?.isBroken === true && !broke.has(link)) this.breaks++;
        if (link !== undefined) broke.add(link);
        target.routes.doubt(link);
        if (FINAL.has(broken.code)) stop ??= broken;
        why ??= broken;
        again.push(parcel);
        continue;
      }
      parcel.askAt = undefined;
      const { reply } = answer;
      if (!reply.isError) {
        step.done(parcel, reply);
        continue;
      }
      const { command } = step;
      const at = link?.name ?? target.name;
      const refusal = readRefusal(reply.text, { command, user: target.user, at });
      switch (refusal.kind) {
        case "exists":
          step.exists(parcel);
          break;
        case "failed":
          step.failed(parcel, refusal.why);
          break;
        case "moved":
          if (link !== undefined) target.routes.moved(refusal.slot, refusal.address, link);
          again.push(parcel);
          break;
        case "ask":
          parcel.askAt = link && target.routes.asked(refusal.address, link);
          again.push(parcel);
          break;
        case "again":
          why ??= `${at}: ${refusal.why}`;
          if (refusal.reconnect && link !== undefined && !broke.has(link)) {
            this.breaks++;
            broke.add(link);
          }
          target.routes.doubt(refusal.reconnect ? link : undefined);
          again.push(parcel);
          break;
        case "stop":
          stop ??= refusal.error;
          again.push(parcel);
      }
    }
    return { again, why, stop };
  }

  #recovered(): void {
    this.#failures = 0;
    this.#troubleSinceMs = undefined;
  }

  /** Waits before the next attempt. @throws ReplicaError TIMED_OUT once the trouble has lasted too long. */
  async #pause(why: ReplicaError | string | undefined): Promise<void> {
    const { clock, signal, timeoutMs, retryMaxMs, onTrouble, target } = this.#options;
    const nowMs = clock.monotonicMs();
    const said = why === undefined ? "the cluster sends keys from node to node" : wordOf(why);
    // A redirection by itself is no trouble.
    if (this.#troubleSinceMs === undefined && why !== undefined) onTrouble(said);
    this.#troubleSinceMs ??= nowMs;
    if (nowMs - this.#troubleSinceMs >= timeoutMs) {
      const cause = why instanceof ReplicaError ? why : undefined;
      throw new ReplicaError("TIMED_OUT", {
        message: `${target.name} is away for ${timeoutMs / 1000} s (--timeout): ${said}`,
        cause,
      });
    }
    this.#failures++;
    await clock.sleep(
      backoffMs(this.#failures, retryMaxMs, () => clock.random()),
      signal,
    );
    signal.throwIfAborted();
  }
}

function wordOf(why: ReplicaError | string): string {
  return typeof why === "string" ? why : why.message;
}

function unsent(parcel: Parcel, link: TargetLink, broken: ReplicaError): Answer {
  return { parcel, link, broken, wasSent: false };
}

function lost(link: TargetLink): ReplicaError {
  return new ReplicaError("LINK_LOST", { message: `${link.name}: a reply is missing` });
}
