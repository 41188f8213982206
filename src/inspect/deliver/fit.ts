import { ReplicaError, usageError } from "../../base/errors.ts";
import { counted, formatBytes } from "../../base/quantity.ts";
import { formatOfType } from "../../rdb/payload-format.ts";
import { isAtLeast, loadersOf, type Release, releaseName } from "../../rdb/releases.ts";
import type { Survey } from "./survey.ts";
import type { TargetFacts } from "./target-facts.ts";

/** The servers whose RESTORE has ABSTTL, IDLETIME and FREQ (Redis 5.0), and REPLACE (3.0). */
export const FIRST_ABSOLUTE = 5;
const FIRST_REPLACE = 3;

/**
 * Refuses a server that keys can't be written into, before anything is.
 * @param at its name for people.
 * @param isSeed whether it is only asked for the other nodes of its cluster, and may be a replica.
 * @throws ReplicaError USAGE where another server is to be named, TARGET_REFUSED where it can't now.
 */
export function refuseServer(
  facts: TargetFacts,
  at: string,
  isSeed: boolean,
): asserts facts is TargetFacts & { readonly release: Release } {
  if (facts.isReplicaProgram) {
    throw usageError(
      `${at} is a replica of this kind, which takes no writes: give the primary${follows(facts)} to --into`,
    );
  }
  const isAsked = isSeed && facts.isClusterNode;
  if (facts.isReadOnly && !isAsked) {
    throw usageError(
      `${at} is a replica${follows(facts)}, and read-only: give its primary to --into`,
    );
  }
  if (facts.isLoading && !isAsked) {
    const far = facts.loaded === "" ? "" : ` (${facts.loaded}% so far)`;
    throw refusedNow(`${at} is still loading its data${far}: run this again once it is done`);
  }
  if (facts.release === undefined) {
    throw refusedNow(`${at} doesn't say which version it is: what it can load isn't known`);
  }
}

function follows({ primary }: TargetFacts): string {
  return primary === "" ? "" : ` (of ${primary})`;
}

/**
 * Refuses a server that doesn't know what it would get.
 * @throws ReplicaError USAGE, which names the servers that do.
 */
export function refuseUnfitValues(
  survey: Survey,
  facts: TargetFacts & { readonly release: Release },
  at: string,
  replace: boolean,
): void {
  const { release, modules } = facts;
  const [unfit] = survey.unfitFor(release);
  if (unfit !== undefined) {
    const { kind, type, file, keys, first } = unfit;
    const form = WITH_EXPIRY.has(type) ? "with fields that expire" : "in a newer form";
    const what = `${kind}${kind === "hash" ? "es" : "s"} ${form}`;
    const loaders = loadersOf(formatOfType(type, file));
    throw usageError(
      `${at} is ${releaseName(release)} and can't load ${counted(keys, "key")} (${what}, RDB type ${type}; the first is ${JSON.stringify(first.key)} of database ${first.db}): ${loaders} can; nothing was written`,
    );
  }
  for (const [type, { key, db }] of survey.modules) {
    if (modules === undefined || mayKnow(modules, type)) continue;
    throw usageError(
      `${at} has no module loaded that knows the type ${JSON.stringify(type)}, of which ${JSON.stringify(key)} of database ${db} is: load that module there, or leave such keys out; nothing was written`,
    );
  }
  if (replace && !isAtLeast(release, FIRST_REPLACE, 0)) {
    throw usageError(`${at} is ${releaseName(release)}, whose RESTORE has no REPLACE (since 3.0)`);
  }
}

/** Modules that have no type of values: Valkey's engine for scripts. */
const WITHOUT_TYPES = new Set(["lua"]);
/** Types that are named as the one module which has them (Redis 8.0: vector sets). */
const NAMED_AS_MODULE = new Set(["vectorset"]);

/** Whether one of the modules may have a type: which ones they have, a server doesn't tell. */
function mayKnow(modules: readonly string[], type: string): boolean {
  if (NAMED_AS_MODULE.has(type)) return modules.includes(type);
  return modules.some((name) => !WITHOUT_TYPES.has(name));
}

/** Hash fields with an expiry: Redis's from 7.4 on, and Valkey's from 9.0 on. */
const WITH_EXPIRY = new Set([22, 23, 24, 25]);

/** What a person should know before a server's memory fills up; undefined where there is room, as far as is known. */
export function roomWarning(
  survey: Survey,
  { maxMemoryBytes, usedMemoryBytes, policy }: TargetFacts,
  at: string,
): string | undefined {
  if (maxMemoryBytes === 0) return undefined;
  const freeBytes = Math.max(0, maxMemoryBytes - usedMemoryBytes);
  if (survey.bytes <= freeBytes) return undefined;
  const then =
    policy === "noeviction" || policy === ""
      ? "it will refuse what no longer fits (OOM)"
      : `it will evict other keys (${policy})`;
  return `${at} has ${formatBytes(freeBytes)} left below its maxmemory, and the keys take at least ${formatBytes(survey.bytes)}: ${then}`;
}

function refusedNow(message: string): ReplicaError {
  return new ReplicaError("TARGET_REFUSED", { retry: "never", message });
}
