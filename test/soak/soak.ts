import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "../support/fill.ts";
import { type ServerKind, serverVersion } from "../support/servers.ts";
import { tempDir } from "../support/temp.ts";
import { Comparer } from "./compare.ts";
import { Deck, FAULTS } from "./faults.ts";
import { Fleet } from "./fleet.ts";
import { Load } from "./load.ts";
import type { Report } from "./report.ts";
import { Tally } from "./tally.ts";

export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly server: ServerKind;
  readonly binary: "source" | "compiled";
  /** Called with each event, as one line of text. */
  readonly onEvent?: (line: string) => void;
}

/** A run up to this length compares twice a minute, a longer one once. */
const SHORT_MINUTES = 5;
const BETWEEN_FAULTS_MS = 1_500;
/** After so many faults, the last comparison is repeated from the kept history. */
const LOOK_BACK_AFTER_FAULTS = 2;

/**
 * Runs a replica of a primary under load, with faults of every kind, and compares what it keeps and relays
 * with the primary. Ends when the time is over and every kind of fault has happened, or at the first
 * problem; then all files are kept in the folder that the report names. The same seed, server and time
 * give the same faults in the same order.
 */
export async function soak(options: SoakOptions): Promise<Report> {
  const { minutes, seed, server, binary, onEvent = () => undefined } = options;
  const beganMs = performance.now();
  using dir = tempDir("soak");
  const random = new Random(seed);
  await using fleet = await Fleet.start({ kind: server, binary, dir, random });
  await using load = Load.start(() => fleet.primary.server, seed + 1);
  await using tally = Tally.start(fleet);
  const comparer = new Comparer(fleet, load, new Random(seed + 10), dir);
  const deck = new Deck(random);
  const faults: Record<string, number> = {};
  let trouble: string[] = [];
  const everyMs = minutes <= SHORT_MINUTES ? 30_000 : 60_000;
  const elapsedMs = () => performance.now() - beganMs;
  const tell = (what: string) => onEvent(`${(elapsedMs() / 1000).toFixed(1)} s: ${what}`);

  let faultsSince = 0;
  const compare = async () => {
    tell("compare");
    await comparer.compareNow();
    faultsSince = 0;
  };
  try {
    let nextMs = elapsedMs() + everyMs / 2;
    while (comparer.losses.length === 0 && (elapsedMs() < minutes * 60_000 || deck.rounds === 0)) {
      if (elapsedMs() >= nextMs) {
        await compare();
        nextMs = elapsedMs() + everyMs;
        continue;
      }
      const kind = deck.deal();
      tell(kind);
      await FAULTS[kind]!({ fleet, comparer, random });
      faults[kind] = (faults[kind] ?? 0) + 1;
      faultsSince++;
      if (faultsSince === LOOK_BACK_AFTER_FAULTS) await comparer.compareEarlier();
      // Some faults overlap.
      if (random.below(3) > 0) await fleet.recovered();
      await Bun.sleep(random.below(BETWEEN_FAULTS_MS));
      comparer.lookAtResume();
    }
    if (comparer.losses.length === 0) await compare();
    await tally.look();
    if (comparer.losses.length === 0) {
      await fleet.endReplica("stopped");
      await comparer.verify();
    }
  } catch (error) {
    trouble = [error instanceof Error ? error.message : String(error)];
  }
  const problems = [...comparer.losses, ...trouble];
  let evidence: string | undefined;
  if (problems.length > 0) {
    evidence = mkdtempSync(join(tmpdir(), `replica-soak-${seed}-`));
    fleet.collect(evidence);
  }
  return {
    seed,
    server: `${server} (${serverVersion(server)})`,
    replica: binary,
    minutes,
    seconds: elapsedMs() / 1000,
    faults,
    syncs: fleet.syncs(),
    ...tally.totals(),
    load: { commands: load.commands, ...tally.keys() },
    comparisons: comparer.counts,
    acknowledgedChecks: comparer.acknowledgedChecks,
    resumeChecks: comparer.resumeChecks,
    lost: comparer.losses.length,
    problems,
    evidence,
  };
}
