/* Invariant: whatever was removed when this ends, at any object, every young moment can be restored as before. */
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { formatAge } from "../../base/quantity.ts";
import type { Decryption } from "../format/encryption.ts";
import { ARCHIVE_KEY, BASE_FILE, generationKey, GENERATIONS } from "../format/names.ts";
import { parseGenerationName, REMOVED_FILE } from "../format/names.ts";
import { ArchiveSource } from "../reader/archive-source.ts";
import type { GenerationHead } from "../reader/generation-head.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type FolderView, lookAtFolder } from "./folder-view.ts";
import { Remover } from "./remover.ts";
import { removalPlan, type RemovalPlan, type StreamPath } from "./removal-plan.ts";
import { readStreamPath } from "./stream-path.ts";
import { nextOfUnfinished } from "./unfinished.ts";
import { readWhole, type WholeFolder } from "./whole-folder.ts";

export interface ArchiveRetentionOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  /** How long a moment stays restorable, in milliseconds; undefined: for ever. */
  readonly keepForMs: number | undefined;
  /** What reads an encrypted archive; undefined: what only that can tell stays. */
  readonly decryption?: Decryption | undefined;
}

/** What a run has removed. */
export interface Removed {
  /** The folders of the generations that can't be restored any more. */
  readonly generations: readonly string[];
  /** The folders of which all objects of ours are gone. */
  readonly folders: readonly string[];
  readonly objects: number;
  readonly bytes: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A start has better things to do, and many start at once. */
const FIRST_AFTER_MS = 5 * MINUTE_MS;
const FIRST_WITHIN_MS = 10 * MINUTE_MS;

/** No less than a day between two runs: what the one marks, the next one finds a day old. */
const EVERY_MS = DAY_MS;
const EVERY_WITHIN_MS = HOUR_MS;

/** A generation that has been marked for so long, and still has its base.json, is not about to lose it. */
const GIVEN_UP_AFTER_MS = HOUR_MS;

/** So far two clocks may be apart before that is told. */
const APART_MS = HOUR_MS;

/** After a failure. */
const AGAIN_AFTER_MS = HOUR_MS;

/**
 * Removes from an archive what is needed for no moment younger than `keepForMs`, and what crashed writers left behind.
 * Ages are those that the store tells; where this machine's clock tells another time, the earlier one counts. Others may
 * write to the archive meanwhile, and remove from it.
 */
export class ArchiveRetention {
  readonly #options: ArchiveRetentionOptions;
  readonly #source: ArchiveSource;
  /** Those that were read, and how young their generation's newest object was then. */
  readonly #paths = new Map<string, { readonly youngestMs: number; readonly path?: StreamPath }>();
  /** What people were told about. */
  readonly #told = new Set<string>();

  /** What was removed since the start, and how often a run failed. */
  readonly counts = { generations: 0, folders: 0, objects: 0, bytes: 0, failures: 0 };

  constructor(options: ArchiveRetentionOptions) {
    this.#options = options;
    this.#source = new ArchiveSource(options.store, options.decryption);
  }

  /** Removes what is old some minutes from now, and then once a day, until `signal` aborts. Failures are logged. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, keepForMs, store } = this.#options;
    if (keepForMs === undefined) return;
    let pauseMs = FIRST_AFTER_MS + clock.random() * FIRST_WITHIN_MS;
    for (;;) {
      await clock.sleep(pauseMs, signal);
      if (signal.aborted) return;
      pauseMs = EVERY_MS;
      try {
        await this.runOnce(signal);
        this.#told.delete("run");
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ReplicaError)) throw error;
        pauseMs = AGAIN_AFTER_MS;
        this.counts.failures++;
        this.#tell(
          "run",
          `nothing old is removed from ${store.url} at present, and it is tried again: ${error.message}`,
        );
      }
      pauseMs += clock.random() * EVERY_WITHIN_MS;
    }
  }

  /**
   * Removes what is old now. A store that forbids to delete is told of once, and ends the run.
   * @throws ReplicaError ARCHIVE_TOO_NEW, ARCHIVE_DAMAGED where the archive's own description is; of the store: what was
   * removed until then counts; the reason of `signal`.
   */
  async runOnce(signal: AbortSignal): Promise<Removed> {
    const { store, keepForMs } = this.#options;
    const remover = new Remover(store, this.counts);
    if (keepForMs === undefined) return remover.removed;
    if (!(await this.#isArchive(signal))) return remover.removed;
    const storeMs = await store.now(signal);
    const [wholes, unfinished] = await this.#look(signal);
    const nowMs = this.#now(storeMs, [...wholes.map(({ view }) => view), ...unfinished]);
    const plan = await this.#plan(wholes, nowMs, keepForMs, signal);
    const { due } = plan;
    this.#tellWhatStays(plan);
    try {
      for (const { name, by } of due) {
        const view = wholes.find((one) => one.view.name === name)!.view;
        if (!(await this.#isWhole(by, signal))) break;
        await remover.retire(view, signal);
        logger.info(
          `removed generation ${name} from ${store.url}: every moment of the last ${formatAge(keepForMs / 1000)} can be restored without it`,
        );
      }
      const goes = new Set(due.map(({ name }) => name));
      for (const { view } of wholes) {
        const markedMs = view.documents.get(REMOVED_FILE) ?? Infinity;
        if (nowMs - markedMs >= GIVEN_UP_AFTER_MS && !goes.has(view.name))
          await remover.unmark(view.name, signal);
      }
      for (const view of unfinished) await this.#goOn(view, nowMs, remover, signal);
      this.#told.delete("forbidden");
    } catch (error) {
      if (!(error instanceof ReplicaError) || error.code !== "ARCHIVE_FORBIDDEN") throw error;
      this.counts.failures++;
      this.#tell("forbidden", `what is old stays in ${store.url}: ${error.message}`);
    }
    return remover.removed;
  }

  /** Whether it is an archive, of a format that is known. */
  async #isArchive(signal: AbortSignal): Promise<boolean> {
    if ((await this.#source.document("archive", ARCHIVE_KEY, signal)) !== undefined) return true;
    this.#tell(
      "archive",
      `${this.#source.placeOf(ARCHIVE_KEY)} is missing: nothing old is removed without it`,
      "info",
    );
    return false;
  }

  /** What time it is, at least: where two clocks differ, the one by which less is old. */
  #now(storeMs: number | undefined, views: readonly FolderView[]): number {
    // A store that tells no date has taken its newest object at some time before now.
    const newestMs = views.reduce((most, { youngestMs }) => Math.max(most, youngestMs), -Infinity);
    const ownMs = this.#options.clock.now();
    const apartMs = Math.abs(ownMs - (storeMs ?? ownMs));
    if (apartMs < APART_MS) this.#told.delete("clocks");
    else {
      const apart = formatAge(apartMs / 1000);
      const { url } = this.#options.store;
      this.#tell(
        "clocks",
        `this machine's clock is ${apart} ${ownMs < (storeMs ?? ownMs) ? "behind" : "ahead of"} that of ${url}: what is old there is judged by the earlier one; set the clock`,
      );
    }
    return Math.min(ownMs, storeMs ?? newestMs);
  }

  /** The whole generations, and the folders without a base.json. What is damaged or unknown is in neither. */
  async #look(signal: AbortSignal): Promise<[WholeFolder[], FolderView[]]> {
    const { store } = this.#options;
    const { folders, objects } = await this.#source.list(GENERATIONS, signal);
    const wholes: WholeFolder[] = [];
    const unfinished: FolderView[] = [];
    for (const foreign of [...objects.keys(), ...folders].toSorted()) {
      if (parseGenerationName(foreign) === undefined || objects.has(foreign))
        this.#tellForeign(`${GENERATIONS}/${foreign}`);
    }
    for (const name of folders.toSorted()) {
      if (parseGenerationName(name) === undefined) continue;
      const view = await lookAtFolder(store, name, signal);
      if (view.foreign !== undefined) this.#tellForeign(view.foreign);
      const found = await readWhole(this.#source, view, signal);
      if (found.kind === "whole") wholes.push(found.folder);
      else if (found.kind === "unfinished") unfinished.push(view);
      else this.#tell(name, `${this.#placeOf(name)} is never removed: ${found.why}`);
    }
    this.#forget(folders);
    return [wholes, unfinished];
  }

  async #plan(
    wholes: readonly WholeFolder[],
    nowMs: number,
    keepForMs: number,
    signal: AbortSignal,
  ): Promise<RemovalPlan> {
    const paths = new Map<string, StreamPath | undefined>();
    for (const { view } of wholes) {
      const known = this.#paths.get(view.name);
      if (known?.youngestMs === view.youngestMs) paths.set(view.name, known.path);
    }
    for (;;) {
      const generations = wholes.map(({ generation }) => generation);
      const plan = removalPlan(generations, { nowMs, keepForMs }, paths);
      if (plan.unread.length === 0) return plan;
      for (const name of plan.unread) {
        const { head, view } = wholes.find((one) => one.view.name === name)!;
        paths.set(name, await this.#readPath(head, view, signal));
      }
    }
  }

  async #readPath(
    head: GenerationHead,
    { name, youngestMs }: FolderView,
    signal: AbortSignal,
  ): Promise<StreamPath | undefined> {
    const path = await readStreamPath(this.#source, head, signal);
    this.#paths.set(name, { youngestMs, ...(path === undefined ? {} : { path }) });
    return path;
  }

  /** Whether the generation because of which another one goes can still be restored. */
  async #isWhole(name: string, signal: AbortSignal): Promise<boolean> {
    const key = generationKey(name, BASE_FILE);
    const options = { range: { from: 0, to: 1 }, maxBytes: 1 };
    return (await this.#options.store.get(key, options, signal)) !== undefined;
  }

  async #goOn(
    view: FolderView,
    nowMs: number,
    remover: Remover,
    signal: AbortSignal,
  ): Promise<void> {
    const { name } = view;
    const next = await nextOfUnfinished(this.#source, view, nowMs, signal);
    switch (next.kind) {
      case "leave":
        if (next.why !== undefined)
          this.#tell(name, `${this.#placeOf(name)} is never removed: ${next.why}`);
        return;
      case "mark":
        return await remover.mark(view, signal);
      case "unmark":
        return await remover.unmark(name, signal);
      case "clear": {
        const { objects } = await remover.clear(name, signal);
        if (objects > 0) logger.info(`removed what was left of ${this.#placeOf(name)}`);
        return;
      }
    }
  }

  #tellWhatStays({ alone, forks }: RemovalPlan): void {
    for (const name of alone) {
      this.#tell(
        name,
        `${this.#placeOf(name)} is old, and nothing in the archive is known to go on with it: it stays until somebody removes it`,
        "info",
      );
    }
    for (const [name, generation] of forks) {
      this.#tell(
        `fork ${name}`,
        `two data directories archive to ${this.#options.store.url} as copies of one, from generation ${generation} on: what either has from then on is never removed`,
      );
    }
  }

  #placeOf(name: string): string {
    return this.#source.placeOf(generationKey(name));
  }

  #tellForeign(key: string): void {
    const place = this.#source.placeOf(key);
    this.#tell(key, `${place} is no part of an archive: it is left alone`, "info");
  }

  /** Once. */
  #tell(about: string, message: string, level: "info" | "warn" = "warn"): void {
    logger[this.#told.has(about) ? "debug" : level](message);
    this.#told.add(about);
  }

  /** What is known of generations that are gone. */
  #forget(folders: readonly string[]): void {
    const there = new Set(folders);
    for (const name of this.#paths.keys()) if (!there.has(name)) this.#paths.delete(name);
    for (const about of this.#told.keys()) {
      if (parseGenerationName(about) !== undefined && !there.has(about)) this.#told.delete(about);
    }
  }
}
