import { describeAddress } from "../../base/address.ts";
import type { Address } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Position } from "../../base/history.ts";
import type { ClusterSource, PrimaryNaming } from "../../config/primary-source.ts";
import { describeTarget, type PrimaryTarget } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import { readPrimarySize } from "../../upstream/room/primary-size.ts";
import { nodeTarget } from "../topology/node-link.ts";
import { type NodeSelf, readFedReplica } from "../topology/node-self.ts";
import { Told } from "../topology/told.ts";
import type { ClusterNode, ShardView } from "../topology/topology.ts";
import type { SnapshotGate } from "./snapshot-gate.ts";

/** For how long a replica is not tried again that could not be followed. */
const AVOIDED_MS = 60_000;
/** For how long one isn't asked again that said why it can't be: nothing was broken off for it. */
const UNFIT_MS = 5_000;
/** How long a replica may take to say who it is: there are others, and the primary. */
const REPLICA_ANSWER_MS = 3_000;
/** A replica that has less than what is kept may only be some bytes late: it is asked so often, with pauses. */
const LATE_TRIES = 5;
const LATE_MS = 100;

/** A node that can be connected to. */
type Reachable = ClusterNode & { readonly address: Address };

/** Whom to follow. */
interface Chosen {
  readonly node: Reachable;
  /** Whether the attempt brings a snapshot for sure; false where the node doesn't say. */
  readonly isFull: boolean;
}

export interface ShardNamingOptions {
  readonly number: number;
  readonly source: ClusterSource;
  readonly readFrom: Settings["cluster"]["readFrom"];
  readonly gate: SnapshotGate;
  readonly clock: Pick<Clock, "monotonicMs" | "sleep">;
  /**
   * Looks at the cluster, and finds this shard in what is believed from after this call; undefined where it isn't there.
   * @throws ReplicaError as `ClusterLooks.fresh`.
   */
  readonly look: () => Promise<ShardView | undefined>;
  /** Asks the server at an address who it is: see `ClusterLooks.self`. */
  readonly askSelf: (address: Address, withinMs?: number) => Promise<NodeSelf>;
  /** What the shard's directory could be resumed from; undefined where it keeps nothing. */
  readonly resume: () => Position | undefined;
}

/**
 * Names the primary of one shard, or a replica of it: whom the cluster, asked anew before each attempt, says is that. So
 * a node that came back as a replica with another history is never followed.
 */
export class ShardNaming implements PrimaryNaming {
  readonly #options: ShardNamingOptions;
  readonly #told = new Told();
  #free: (() => void) | undefined;
  /** Whom it named last. */
  #named: Reachable | undefined;
  /** The same, until the next attempt. */
  #attempted: Reachable | undefined;
  #changed = new AbortController();
  /** Replicas that could not be followed, and until when they aren't tried. */
  readonly #avoided = new Map<string, number>();
  /** No node told who it is: what is kept may go on, and nothing replaces it. */
  #isGuessed = false;

  constructor(options: ShardNamingOptions) {
    this.#options = options;
  }

  /** See `PrimaryNaming.locate`. An attempt that may bring a snapshot waits for its turn; others never do. */
  async locate(signal: AbortSignal, followed?: PrimaryTarget): Promise<PrimaryTarget | undefined> {
    this.#leaveGate();
    this.#attempted = undefined;
    if (this.#options.resume() === undefined && !(await this.#enterGate(signal))) return undefined;
    const view = await unlessAborted(this.#look(), signal);
    if (view === undefined || signal.aborted) return undefined;
    if (view === "nobody answers") return await unlessAborted(this.#lastKnown(followed), signal);
    this.#isGuessed = false;
    this.#told.over("guess");
    const chosen = await unlessAborted(this.#choose(view, signal), signal);
    if (chosen === undefined) return undefined;
    if (chosen.isFull && !(await this.#enterGate(signal))) return undefined;
    if (signal.aborted) return undefined;
    this.#named = chosen.node;
    this.#attempted = chosen.node;
    return nodeTarget(this.#options.source, chosen.node.address);
  }

  /** See `PrimaryNaming.changed`. */
  get changed(): AbortSignal {
    return this.#changed.signal;
  }

  /** Takes how a look saw the shard: amid a failover the attempts fail, and the next one may be far away. */
  saw(view: ShardView | undefined): void {
    const named = this.#named;
    if (view === undefined || named === undefined) return;
    const { role, health, address } = view.primary;
    const isFollowable = role === "primary" && health !== "failed";
    const next = this.#candidates(view)[0]?.address ?? (isFollowable ? address : undefined);
    if (next === undefined || describeAddress(next) === describeAddress(named.address)) return;
    this.#changed.abort();
    this.#changed = new AbortController();
  }

  /** See `PrimaryNaming.judge`. */
  judge(_target: PrimaryTarget, isConnected: boolean): void {
    this.#leaveGate();
    const attempted = this.#attempted;
    if (attempted?.role !== "replica") return;
    if (isConnected) this.#avoided.delete(describeAddress(attempted.address));
    else this.avoid(attempted.address);
  }

  /** A replica is left alone for a while. */
  avoid(address: Address, forMs: number = AVOIDED_MS): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [name, untilMs] of this.#avoided) if (untilMs <= nowMs) this.#avoided.delete(name);
    this.#avoided.set(describeAddress(address), nowMs + forMs);
  }

  /**
   * Asks the shard's replicas, with `--cluster-read-from replica`, for one to follow: it is fed by the shard's primary, and
   * can go on with what is kept. One that can't is left alone for a while.
   */
  async findReplica(view: ShardView): Promise<Reachable | undefined> {
    for (const node of this.#candidates(view)) {
      const found = await this.#weigh(node, view);
      if (found === "continues") return node;
      this.avoid(node.address, UNFIT_MS);
    }
    return undefined;
  }

  /**
   * Looks once more: a node may have joined another shard since it was asked, and its data must not replace this one's.
   * @throws ReplicaError PRIMARY_UNKNOWN where nobody says that the node that is followed belongs to this shard, or the
   * server there isn't this node.
   */
  async refuseFull(): Promise<void> {
    const view = await this.#look();
    const named = this.#named;
    if (view !== "nobody answers" && !this.#isGuessed && named !== undefined) {
      if (isAt(view.primary, named)) {
        await this.#askPrimary(view, "strictly");
        return;
      }
      const replica = this.#fit(view).find((node) => isAt(node, named));
      const found = replica === undefined ? "unfit" : await this.#weigh(replica, view);
      if (found === "continues" || found === "full") return;
    }
    throw this.#noFull("no node of the cluster says any more that it would be its data");
  }

  /** See `PrimaryNaming.snapshotTurn`. */
  async snapshotTurn(signal: AbortSignal): Promise<(() => void) | undefined> {
    return await this.#options.gate.enter(signal);
  }

  /** The shard is followed no more. */
  end(): void {
    this.#leaveGate();
  }

  async #look(): Promise<ShardView | "nobody answers"> {
    const { look, number } = this.#options;
    let view: ShardView | undefined;
    try {
      view = await look();
    } catch (error) {
      const isSilence = error instanceof ReplicaError && error.code === "PRIMARY_UNKNOWN";
      if (!isSilence) throw error;
      this.#silence = error;
      return "nobody answers";
    }
    if (view !== undefined) return view;
    throw new ReplicaError("PRIMARY_UNKNOWN", {
      message: `shard ${number} isn't in the cluster as its nodes show it now: it may be about to end`,
    });
  }

  #silence: ReplicaError | undefined;

  /** The node that was followed last, unless another server answers there. */
  async #lastKnown(followed: PrimaryTarget | undefined): Promise<PrimaryTarget> {
    if (followed === undefined || this.#options.resume() === undefined) throw this.#silence!;
    this.#isGuessed = true;
    const named = this.#named;
    const self = named && (await this.#askSelf(named.address));
    if (named !== undefined && self !== undefined) this.#refuseStranger(named, self);
    this.#told.warn(
      "guess",
      `${this.#silence!.message}; trying ${describeTarget(followed)} again, the node that was followed last, and only to go on with what is kept`,
    );
    return followed;
  }

  /** @throws ReplicaError PRIMARY_UNKNOWN where the shard has no node to follow. */
  async #choose(view: ShardView, signal: AbortSignal): Promise<Chosen> {
    if (this.#options.readFrom === "primary") return await this.#askPrimary(view);
    const { number } = this.#options;
    let full: Reachable | undefined;
    for (const node of this.#candidates(view)) {
      const found = await this.#weighPatiently(node, view, signal);
      if (found === "continues") {
        this.#told.over("replica", `shard ${number} has a healthy replica again`);
        return { node, isFull: false };
      }
      if (found === "full") full ??= node;
      else this.avoid(node.address, found === "unfit" ? UNFIT_MS : AVOIDED_MS);
    }
    if (full === undefined) {
      this.#told.warn(
        "replica",
        `shard ${number} has no healthy replica: its primary is followed until it has one`,
      );
      return await this.#askPrimary(view);
    }
    // A primary that can go on spares the snapshot.
    const primary = await this.#askPrimary(view).catch((error: unknown) => {
      if (error instanceof ReplicaError) return undefined;
      throw error;
    });
    return primary?.continues === true ? primary : { node: full, isFull: true };
  }

  /** @throws ReplicaError PRIMARY_UNKNOWN where the shard has no primary to follow. */
  #primaryOf({ primary }: ShardView): Reachable {
    const { number } = this.#options;
    const { id, address, health, role } = primary;
    if (role === "replica") throw this.#isReplica(primary);
    if (address === undefined) {
      throw new ReplicaError("PRIMARY_UNKNOWN", {
        message: `the cluster has no address for the primary of shard ${number} (node ${id})`,
      });
    }
    if (health === "failed") {
      throw new ReplicaError("PRIMARY_UNKNOWN", {
        message: `the primary of shard ${number} has failed (node ${id} at ${describeAddress(address)}), and no replica has taken over`,
      });
    }
    return { ...primary, address };
  }

  /**
   * Asks the primary itself.
   * @param how `strictly`: only one that says who it is will do.
   * @throws ReplicaError PRIMARY_UNKNOWN where there is none, it has become a replica, or is another server.
   */
  async #askPrimary(
    view: ShardView,
    how?: "strictly",
  ): Promise<Chosen & { readonly continues: boolean | undefined }> {
    const node = this.#primaryOf(view);
    const resume = this.#options.resume();
    const self = await this.#askSelf(node.address);
    if (self !== undefined) this.#refuseStranger(node, self);
    if (how === "strictly" && self?.kind !== "node") {
      throw this.#noFull(`the server at ${describeAddress(node.address)} doesn't say who it is`);
    }
    const replication = self?.replication ?? "";
    if (/^role:slave\b/m.test(replication)) throw this.#isReplica(node);
    const continues = resume && readPrimarySize(replication, resume).continues;
    return { node, isFull: continues === false, continues };
  }

  /** Undefined where it can't be reached: the attempt itself will say what is wrong with it. */
  async #askSelf(address: Address, withinMs?: number): Promise<NodeSelf | undefined> {
    try {
      return await this.#options.askSelf(address, withinMs);
    } catch (error) {
      if (error instanceof ReplicaError) return undefined;
      throw error;
    }
  }

  /** @throws ReplicaError PRIMARY_UNKNOWN where a server says that it is another node, or none. */
  #refuseStranger({ id, address }: Reachable, self: NodeSelf): void {
    if (self.kind === "busy" || (self.kind === "node" && self.id === id)) return;
    const says = self.kind === "node" ? `it is node ${self.id}` : `it says: ${self.said}`;
    throw new ReplicaError("PRIMARY_UNKNOWN", {
      message: `the server at ${describeAddress(address)} isn't node ${id}, which the cluster has there for shard ${this.#options.number} (${says}): it isn't followed`,
    });
  }

  /** The replicas that are well in the cluster's eyes. */
  #fit({ replicas }: ShardView): Reachable[] {
    if (this.#options.readFrom === "primary") return [];
    return replicas.flatMap((node) => {
      const { address, health, isLoading } = node;
      const isFit = address !== undefined && health === "ok" && !isLoading;
      return isFit ? [{ ...node, role: "replica" as const, address }] : [];
    });
  }

  /** Those of them that are tried. */
  #candidates(view: ShardView): Reachable[] {
    const nowMs = this.#options.clock.monotonicMs();
    return this.#fit(view).filter(
      ({ address }) => nowMs >= (this.#avoided.get(describeAddress(address)) ?? 0),
    );
  }

  async #weighPatiently(
    node: Reachable,
    view: ShardView,
    signal: AbortSignal,
  ): Promise<"continues" | "full" | "late" | "unfit"> {
    for (let tries = 1; ; tries++) {
      const found = await this.#weigh(node, view);
      if (found !== "late" || tries === LATE_TRIES || signal.aborted) return found;
      await this.#options.clock.sleep(LATE_MS, signal);
    }
  }

  /**
   * Asks a replica who it is, and whether it is fed by this shard's primary: it may have been given to another shard.
   * @returns whether it can go on with what is kept: `late` where it has less of the same history.
   */
  async #weigh(
    { id, address }: Reachable,
    { primary }: ShardView,
  ): Promise<"continues" | "full" | "late" | "unfit"> {
    // Before the question: meanwhile more may come over a link that is up.
    const resume = this.#options.resume();
    const self = await this.#askSelf(address, REPLICA_ANSWER_MS);
    if (self?.kind !== "node" || self.id !== id) return "unfit";
    const state = readFedReplica(self.replication);
    if (state === undefined) return "unfit";
    const isOurs = resume !== undefined && state.replid === resume.replid;
    if (!isOurs && self.primaryId !== primary.id) return "unfit";
    if (resume === undefined) return "continues";
    if (readPrimarySize(self.replication, resume).continues !== false) return "continues";
    return isOurs && state.offset < resume.offset ? "late" : "full";
  }

  #noFull(why: string): ReplicaError {
    return new ReplicaError("PRIMARY_UNKNOWN", {
      message: `no full resync of shard ${this.#options.number}, since ${why}`,
    });
  }

  #isReplica({ id }: ClusterNode): ReplicaError {
    return new ReplicaError("PRIMARY_UNKNOWN", {
      message: `node ${id} was the primary of shard ${this.#options.number} and says that it is a replica now: waiting for the cluster to name another one`,
    });
  }

  async #enterGate(signal: AbortSignal): Promise<boolean> {
    if (this.#free !== undefined) return true;
    const free = await this.#options.gate.enter(signal);
    if (free === undefined) return false;
    // An attempt that is broken off, as REPLICAOF NO ONE does, is never judged.
    signal.addEventListener("abort", free, { once: true });
    this.#free = () => {
      // A listener would keep each attempt's signal in memory.
      signal.removeEventListener("abort", free);
      free();
    };
    return true;
  }

  #leaveGate(): void {
    this.#free?.();
    this.#free = undefined;
  }
}

function isAt({ id, address }: ClusterNode, named: Reachable): boolean {
  return (
    id === named.id &&
    address !== undefined &&
    describeAddress(address) === describeAddress(named.address)
  );
}

/** Resolves with undefined as soon as `signal` is aborted. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const { promise: aborted, resolve } = Promise.withResolvers<undefined>();
  const onAbort = () => resolve(undefined);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  promise.catch(() => undefined);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
