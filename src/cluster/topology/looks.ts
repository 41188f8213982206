import { type Address, describeAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { type ErrorCode, ReplicaError } from "../../base/errors.ts";
import { limits } from "../../config/limits.ts";
import { describeSource } from "../../config/primary-source.ts";
import { believe, type Believed, type KnownCluster, type NodeAnswer } from "./believe.ts";
import { ClusterTrouble } from "./cluster-trouble.ts";
import { NodeLink, type NodeLinkOptions } from "./node-link.ts";
import type { NodeSelf } from "./node-self.ts";

export interface LooksOptions extends NodeLinkOptions {
  readonly clock: Clock;
  /** What earlier looks have found. */
  readonly known: () => KnownCluster;
  /** Where the nodes of the last view were, to ask after a start where the URL doesn't help. They get the login. */
  readonly addresses: () => readonly Address[];
}

/** How long a look waits for others once one node has answered. */
const GRACE_MS = 400;

/** So many nodes are asked however large a cluster is: the one that is believed, and three others. */
const FEWEST = 4;

/** The errors of a node that can't be reached. */
const SILENT: ReadonlySet<ErrorCode> = new Set([
  "CONNECT_FAILED",
  "LINK_LOST",
  "TIMED_OUT",
  "STOPPED",
]);

interface Failure {
  readonly who: string;
  readonly error: ReplicaError;
}

/** Looks at a cluster: asks its nodes what they see, and decides which view to believe. */
export class ClusterLooks {
  readonly #options: LooksOptions;
  readonly #trouble: ClusterTrouble;
  readonly #links = new Map<string, NodeLink>();
  /** Those for a single question. */
  readonly #single = new Set<NodeLink>();
  #last: { readonly view: Believed; readonly atMs: number } | undefined;
  #running: Promise<Believed> | undefined;
  #next: Promise<Believed> | undefined;
  #turn = 0;
  #isClosed = false;

  constructor(options: LooksOptions) {
    this.#options = options;
    const { clock, source } = options;
    this.#trouble = new ClusterTrouble(clock, source);
  }

  /** The view that was believed last, and when that was (monotonic clock); undefined before the first. */
  get last(): { readonly view: Believed; readonly atMs: number } | undefined {
    return this.#last;
  }

  /**
   * A view from after this call.
   * @throws ReplicaError PRIMARY_UNKNOWN where no node answers; NOT_A_PRIMARY where none that answers is believed;
   * PRIMARY_REFUSED where it is another cluster; what all nodes say where they say the same.
   */
  fresh(): Promise<Believed> {
    if (this.#next !== undefined) return this.#next;
    if (this.#running === undefined) return this.#begin();
    const begun = this.#running.then(
      () => undefined,
      () => undefined,
    );
    this.#next = begun.then(() => {
      this.#next = undefined;
      return this.#begin();
    });
    return this.#next;
  }

  /** Whether the server at an address said last that it isn't the node which the cluster has there. */
  isStranger(address: Address): boolean {
    return this.#trouble.isStranger(address);
  }

  /**
   * Asks the server at an address who it is, over a connection of its own.
   * @param withinMs how long that may take at most; undefined: --sync-timeout.
   * @throws ReplicaError as `NodeLink.self`; STOPPED after `close`.
   */
  async self(address: Address, withinMs = Infinity): Promise<NodeSelf> {
    if (this.#isClosed) throw new ReplicaError("STOPPED", { message: "it ends" });
    const { settings } = this.#options;
    const syncTimeoutMs = Math.min(settings.syncTimeoutMs, withinMs);
    const link = new NodeLink(address, {
      ...this.#options,
      settings: { tls: settings.tls, syncTimeoutMs },
    });
    this.#single.add(link);
    try {
      return await link.self();
    } finally {
      this.#single.delete(link);
      link.close();
    }
  }

  /**
   * What INFO says of the replication of the server at an address.
   * @throws ReplicaError as `self`; PRIMARY_REFUSED where it may not be asked.
   */
  async replication(address: Address): Promise<string> {
    const { replication } = await this.self(address);
    if (replication !== "") return replication;
    throw new ReplicaError("PRIMARY_REFUSED", { message: "INFO replication is refused" });
  }

  /** Ends every question. */
  close(): void {
    this.#isClosed = true;
    for (const link of [...this.#links.values(), ...this.#single]) link.close();
    this.#links.clear();
  }

  #begin(): Promise<Believed> {
    const running = this.#look().finally(() => (this.#running = undefined));
    this.#running = running;
    return running;
  }

  async #look(): Promise<Believed> {
    const failures: Failure[] = [];
    const answers: NodeAnswer[] = [];
    const asked = new Set<string>();
    for (const some of this.#rounds()) {
      const links = some
        .map((address) => this.#linkTo(address))
        .filter((link) => !asked.has(link.name));
      for (const { name } of links) asked.add(name);
      const round = await this.#askAll(links);
      answers.push(...round.answers);
      failures.push(...round.failures);
      if (answers.length === 0) continue;
      let verdict = believe(answers, this.#options.known(), this.#most);
      if (verdict.kind === "believed" && this.#last === undefined) {
        // A seed may have been cut off: whom it names is heard as well.
        const { shards } = verdict.view.topology;
        const named = this.#some(shards.flatMap(({ primary }) => primary.address ?? []));
        const others = named.map((address) => this.#linkTo(address));
        const more = await this.#askAll(others.filter((link) => !asked.has(link.name)));
        answers.push(...more.answers);
        failures.push(...more.failures);
        verdict = believe(answers, this.#options.known(), this.#most);
      }
      // A URL that leads to another cluster is a mistake, though the one that is kept can be found all the same.
      if (verdict.kind === "another" && this.#last === undefined) break;
      if (verdict.kind !== "believed") continue;
      this.#believed(verdict.view);
      this.#trouble.tell(verdict.view, answers, verdict.strangers);
      return verdict.view;
    }
    throw this.#disbelief(answers, failures);
  }

  /** Whom to ask, one group after the other until a view is believed. */
  *#rounds(): Generator<readonly Address[]> {
    const { source, addresses } = this.#options;
    const shards = this.#last?.view.topology.shards ?? [];
    const primaries = shards.flatMap(({ primary }) => primary.address ?? []);
    const replicas = shards.flatMap(({ replicas }) =>
      replicas.flatMap(({ address }) => address ?? []),
    );
    if (primaries.length > 0) yield this.#some(primaries);
    // A seed that nobody names any more may be another cluster's by now: only where nothing else answers.
    if (replicas.length > 0) yield this.#some(replicas);
    yield this.#some([...source.seeds]);
    if (this.#last === undefined) yield this.#some(addresses());
  }

  /** How many nodes one look may ask at a time. */
  get #most(): number {
    const lines = this.#last?.view.topology.nodes.size ?? 1;
    const fewer = Math.max(FEWEST, Math.floor(limits.clusterLookLines / lines));
    return Math.min(limits.clusterLookNodes, fewer);
  }

  /** As many as one look may ask; others at the next one. */
  #some(addresses: readonly Address[]): readonly Address[] {
    const most = this.#most;
    if (addresses.length <= most) return addresses;
    const from = (this.#turn++ * most) % addresses.length;
    return [...addresses.slice(from), ...addresses.slice(0, from)].slice(0, most);
  }

  #linkTo(address: Address): NodeLink {
    const name = describeAddress(address);
    let link = this.#links.get(name);
    if (link === undefined) {
      link = new NodeLink(address, this.#options);
      this.#links.set(name, link);
    }
    return link;
  }

  /** Resolves once all have answered, or some time after one has. */
  async #askAll(
    links: readonly NodeLink[],
  ): Promise<{ answers: NodeAnswer[]; failures: Failure[] }> {
    const answers: NodeAnswer[] = [];
    const failures: Failure[] = [];
    const over = new AbortController();
    const { clock } = this.#options;
    let grace: Promise<void> | undefined;
    const enough = Promise.withResolvers<void>();
    const all = links.map(async (link) => {
      try {
        if (this.#isClosed) throw new ReplicaError("STOPPED", { message: "it ends" });
        if (link.isAsking)
          throw new ReplicaError("STOPPED", { message: "it has not answered yet" });
        const answer = await link.ask();
        this.#trouble.answered(link.name);
        answers.push(answer);
        grace ??= clock.sleep(GRACE_MS, over.signal).then(enough.resolve);
      } catch (error) {
        if (!(error instanceof ReplicaError)) throw error;
        this.#trouble.failed(link.name, error);
        failures.push({ who: link.name, error });
      }
    });
    try {
      await Promise.race([Promise.all(all), enough.promise]);
    } finally {
      over.abort();
    }
    // Later ones belong to no look.
    return { answers: [...answers], failures: [...failures] };
  }

  #believed(view: Believed): void {
    const { nodes } = view.topology;
    this.#last = { view, atMs: this.#options.clock.monotonicMs() };
    const named = [...nodes.values()].flatMap(({ address }) => address ?? []);
    const kept = new Set([...named, ...this.#options.source.seeds].map(describeAddress));
    for (const [name, link] of this.#links) {
      if (kept.has(name)) continue;
      link.close();
      this.#links.delete(name);
    }
    this.#trouble.keep(kept);
  }

  /** Why no view is believed. */
  #disbelief(answers: readonly NodeAnswer[], failures: readonly Failure[]): ReplicaError {
    const { known, source } = this.#options;
    if (answers.length === 0) return this.#silence(failures);
    const verdict = believe(answers, known(), this.#most);
    const { from, topology } = verdict.kind === "believed" ? verdict.view : verdict.best;
    const name = describeAddress(from);
    if (verdict.kind === "another") {
      const theirs = topology.myId ?? [...topology.nodes.keys()][0] ?? "";
      const ours = [...known().nodeIds][0] ?? "";
      return new ReplicaError("PRIMARY_REFUSED", {
        retry: this.#last === undefined ? "never" : "backoff",
        message: `${describeSource(source)} leads to another cluster (node ${theirs} at ${name}) than the one that is kept (with node ${ours}): name a node of that one, or follow this one into a --dir of its own`,
      });
    }
    return new ReplicaError("NOT_A_PRIMARY", {
      message: `only nodes answer whose view of the cluster is older than what was seen before, or that have left it (${name}: epoch ${topology.epoch}, seen ${known().highestEpoch}; ${topology.slotsAssigned} slots)`,
    });
  }

  #silence(failures: readonly Failure[]): ReplicaError {
    const reasons = Map.groupBy(failures, ({ error }) => error.message);
    const said = [...reasons].map(
      ([reason, those]) => `${reason} (${those.map(({ who }) => who).join(", ")})`,
    );
    const first = failures[0]?.error;
    // A wrong URL at the start.
    const isHopeless =
      failures.length > 0 &&
      this.#last === undefined &&
      failures.every(({ error }) => error.retry === "never");
    const isOne = reasons.size === 1 && first !== undefined;
    return new ReplicaError(isOne && !SILENT.has(first.code) ? first.code : "PRIMARY_UNKNOWN", {
      retry: isHopeless ? "never" : "backoff",
      message: `no node of the cluster tells where its shards are: ${said.join("; ")}`,
      cause: first,
    });
  }
}
