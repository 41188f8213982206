import type { Address } from "../../base/address.ts";
import { describeAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { formatBytes } from "../../base/quantity.ts";
import { printableAscii } from "../../base/printable.ts";
import type { Password } from "../../config/password.ts";
import { type ClusterSource, describeSource, type Source } from "../../config/primary-source.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import { isAtLeast, type Release } from "../../rdb/releases.ts";
import { Sentinels } from "../../upstream/link/sentinel.ts";
import { ClusterRoutes } from "./cluster-routes.ts";
import { refuseServer, refuseUnfitValues, roomWarning } from "./fit.ts";
import { readRefusal } from "./refusals.ts";
import { SingleRoute } from "./single-route.ts";
import type { Survey } from "./survey.ts";
import { readTargetFacts, type TargetFacts } from "./target-facts.ts";
import { TargetLink, type TargetLinkOptions } from "./target-link.ts";
import { targetLogin } from "./target-login.ts";

/** What it takes to reach a target. */
export interface TargetOptions {
  /** Where the URL has no password; undefined: there is none. */
  readonly password: Password | undefined;
  readonly settings: Pick<Settings, "tls" | "syncTimeoutMs" | "timeoutMs" | "sentinel">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** A server that was asked who it is. */
export interface AskedServer {
  readonly endpoint: PrimaryTarget;
  /** Which data it has; none where it doesn't say. After a failover the new primary has the id of before as its second one. */
  readonly replids: readonly string[];
}

/** A server that was asked and may be written into. */
export type FitFacts = TargetFacts & { readonly release: Release };

/** The running server, or cluster, that keys are brought into. It has been asked who it is; nothing is written yet. */
export class Target implements Disposable {
  /** As it is told to people, without a password. */
  readonly name: string;
  /** Its user; undefined: the default one. */
  readonly user: string | undefined;
  /** How it is asked for by name: the host and port that answer, or the path of a socket. */
  readonly address: string;
  /** Of the server that answered first. */
  readonly facts: FitFacts;
  readonly routes: SingleRoute | ClusterRoutes;
  readonly #options: TargetOptions;
  #aheadMs = 0;
  #servers: readonly AskedServer[];
  #release: Release;

  private constructor(
    source: Source,
    {
      link,
      facts,
      routes,
    }: { link: TargetLink; facts: FitFacts; routes: SingleRoute | ClusterRoutes },
    options: TargetOptions,
  ) {
    this.name = describeSource(source);
    this.user = source.username;
    this.#servers = [serverAt(link, facts)];
    const { target } = link;
    this.address = target.kind === "unix" ? target.path : describeAddress(target);
    this.facts = facts;
    this.routes = routes;
    this.#options = options;
    this.#release = facts.release;
  }

  /**
   * Connects to the target, and asks it who it is.
   * @throws ReplicaError as a link does; AUTH_FAILED; USAGE and TARGET_REFUSED where it takes no writes.
   */
  static async open(source: Source, options: TargetOptions): Promise<Target> {
    const { settings, signal } = options;
    const login = targetLogin(source, options.password);
    const linkOptions: TargetLinkOptions = { ...settings, login, signal };
    const connect = async (target: PrimaryTarget): Promise<TargetLink> => {
      const link = new TargetLink(target, linkOptions);
      await link.open();
      return link;
    };
    const locate = locatorOf(source, options);
    const link =
      source.kind === "cluster"
        ? await firstOf(source, connect)
        : await connect(await locate(signal, undefined));
    try {
      const facts = await factsOf(link, source.username, true);
      const cluster = clusterOf(source, link, facts);
      const node = { login, settings };
      const routes =
        cluster === undefined
          ? new SingleRoute(link, locate, connect)
          : new ClusterRoutes({ ...node, source: cluster }, connect, signal);
      if (cluster !== undefined) link.close();
      return new Target(source, { link, facts, routes }, options);
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Whether it is a cluster, whose nodes are only asked in `prepare`. */
  get isCluster(): boolean {
    return this.routes instanceof ClusterRoutes;
  }

  /** Every server that keys go to, as far as they have been asked. */
  get servers(): readonly AskedServer[] {
    return this.#servers;
  }

  /** How far its clock is ahead of ours, as far as it told; milliseconds. */
  get aheadMs(): number {
    return this.#aheadMs;
  }

  /** What each of its servers loads: the version of the oldest one. */
  get release(): Release {
    return this.#release;
  }

  /**
   * Asks every server that a key would go to whether it can take what is to come.
   * @returns what a person should know first.
   * @throws ReplicaError USAGE and TARGET_REFUSED where one can't.
   */
  async prepare(survey: Survey, replace: boolean): Promise<readonly string[]> {
    const { signal, clock } = this.#options;
    const { routes } = this;
    const slots = [...survey.slots.keys()].filter((slot) => survey.slots[slot] === 1);
    const links =
      routes instanceof ClusterRoutes
        ? await routes.nodesOf(slots)
        : [await routes.current(signal)];
    const warnings: string[] = [];
    const servers: AskedServer[] = [];
    for (const link of links) {
      const at = link.name;
      const facts = await factsOf(link, this.user, false);
      servers.push(serverAt(link, facts));
      if (isOlder(facts.release, this.#release)) this.#release = facts.release;
      if (facts.timeMs !== undefined) this.#aheadMs = facts.timeMs - clock.now();
      refuseUnfitValues(survey, facts, at, replace);
      await refuseDatabases(link, survey, this.user);
      await refuseTooLarge(link, survey);
      // Which part of a cluster's keys a node gets isn't counted.
      const warning = links.length === 1 ? roomWarning(survey, facts, at) : undefined;
      if (warning !== undefined) warnings.push(warning);
    }
    this.#servers = servers;
    return warnings;
  }

  /**
   * Whether surely the same process answers as at the beginning: what another one confirmed may never have reached this one.
   * Of a cluster that isn't known.
   */
  async isSame(): Promise<boolean> {
    const { routes, facts } = this;
    if (routes instanceof ClusterRoutes) return false;
    try {
      const link = await routes.current(this.#options.signal);
      return (await factsOf(link, this.user, false)).runId === facts.runId;
    } catch (error) {
      if (error instanceof ReplicaError) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.routes.close();
  }
}

function serverAt({ target }: TargetLink, { replids }: TargetFacts): AskedServer {
  return { endpoint: target, replids };
}

/** Whether a node of a cluster that is being upgraded is behind another one. */
function isOlder(release: Release, other: Release): boolean {
  return release.product === other.product && !isAtLeast(release, other.major, other.minor);
}

type Locate = (signal: AbortSignal, last: PrimaryTarget | undefined) => Promise<PrimaryTarget>;

/** Who is it now? A URL says so by itself; Sentinels are asked. */
function locatorOf(source: Source, { clock, settings }: TargetOptions): Locate {
  if (source.kind === "cluster") {
    return async (_signal, last) => last ?? seedTarget(source, source.seeds[0]!);
  }
  if (source.kind !== "sentinel") return async () => source;
  const sentinels = new Sentinels(source, clock, settings);
  return async (signal, last) => {
    const found = await sentinels.locate(signal, last);
    if (found !== undefined) return found;
    throw new ReplicaError("STOPPED", { message: "it was stopped", retry: "never" });
  };
}

function seedTarget({ tls, username, password }: ClusterSource, at: Address): PrimaryTarget {
  return { kind: tls ? "tls" : "tcp", ...at, username, password };
}

/** The first seed that answers. @throws ReplicaError of the last one where none does. */
async function firstOf(
  source: ClusterSource,
  connect: (target: PrimaryTarget) => Promise<TargetLink>,
): Promise<TargetLink> {
  let failure: unknown;
  for (const seed of source.seeds) {
    try {
      return await connect(seedTarget(source, seed));
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** The cluster that a server belongs to; undefined where it stands alone. */
function clusterOf(source: Source, link: TargetLink, facts: FitFacts): ClusterSource | undefined {
  if (source.kind === "cluster") return source;
  if (!facts.isClusterNode) return undefined;
  const { target } = link;
  const { username, password } = source;
  const [seed, tls] =
    target.kind === "unix"
      ? [undefined, false]
      : [{ host: target.host, port: target.port }, target.kind === "tls"];
  if (seed !== undefined) return { kind: "cluster", tls, seeds: [seed], username, password };
  throw usageError(
    `${link.name} is a cluster's node, whose others can't be reached by a socket: give redis+cluster://host:port to --into`,
  );
}

/** @throws ReplicaError where it doesn't tell, or takes no writes. */
async function factsOf(
  link: TargetLink,
  user: string | undefined,
  isSeed: boolean,
): Promise<FitFacts> {
  const [reply] = await link.ask(["INFO"]);
  if (reply === undefined || reply.isError) throw refusal(link, "INFO", reply?.text ?? "", user);
  const facts = readTargetFacts(reply.text);
  refuseServer(facts, link.name, isSeed);
  return facts;
}

function refusal(
  link: TargetLink,
  command: string,
  text: string,
  user: string | undefined,
): ReplicaError {
  const read = readRefusal(text, { command, user, at: link.name });
  if (read.kind === "stop") return read.error;
  const said = printableAscii(text, 200);
  return new ReplicaError("TARGET_REFUSED", {
    message: `${link.name} refuses ${command}: ${said}`,
  });
}

/** @throws ReplicaError where the target lacks one of the databases. */
async function refuseDatabases(
  link: TargetLink,
  { databases }: Survey,
  user: string | undefined,
): Promise<void> {
  for (const db of databases) {
    if (db === link.db) continue;
    const [reply] = await link.ask(["SELECT", String(db)]);
    if (reply?.isError === false) link.db = db;
    else throw noDatabase(link, db, reply?.text ?? "", user);
  }
}

/** The error for a database that a target hasn't. */
export function noDatabase(
  link: TargetLink,
  db: number,
  text: string,
  user: string | undefined,
): ReplicaError {
  if (!/^ERR\b/.test(text)) return refusal(link, "SELECT", text, user);
  const said = printableAscii(text, 200);
  const why = /cluster/i.test(said) ? "a cluster has database 0 alone" : "raise databases there";
  return usageError(
    `${link.name} has no database ${db} (${said}): ${why}, or choose another database with --db`,
  );
}

/** Above so much a server may refuse a value by its default, 512 MiB ("redis.conf", proto-max-bulk-len). */
const LARGE_BYTES = 512 * 1024 * 1024;

/** @throws ReplicaError where one value is larger than what the target takes in one command. */
async function refuseTooLarge(link: TargetLink, { largest }: Survey): Promise<void> {
  if (largest === undefined || largest.bytes <= LARGE_BYTES) return;
  const [, , value] = await link.ask(["CONFIG", "GET", "proto-max-bulk-len"]);
  // Without the right to ask: what it has by default.
  const isTold = value !== undefined && /^\d{1,15}$/.test(value.text);
  const most = isTold ? Number(value.text) : LARGE_BYTES;
  if (largest.bytes <= most) return;
  throw usageError(
    `${link.name} takes values of up to ${formatBytes(most)}, and ${JSON.stringify(largest.key)} of database ${largest.db} takes ${formatBytes(largest.bytes)}: send it CONFIG SET proto-max-bulk-len ${2 * largest.bytes} first`,
  );
}
