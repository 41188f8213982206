import { type Address, describeAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import type { ReplicaError } from "../../base/errors.ts";
import type { ClusterSource } from "../../config/primary-source.ts";
import { SLOTS } from "../slots/slot-ranges.ts";
import type { Believed, NodeAnswer } from "./believe.ts";
import { Told } from "./told.ts";
import type { Topology } from "./topology.ts";

/**
 * A node that is well in the cluster's eyes, and out of reach for so long, is told of. Others take one that died for well
 * until `cluster-node-timeout` is over, 15 s where it isn't set.
 */
const UNREACHABLE_MS = 30_000;

/** What is wrong with a cluster, or with the way to it, though a view of it is believed. */
export class ClusterTrouble {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #source: ClusterSource;
  readonly #told = new Told();
  /** Addresses at which another server answers than the cluster has there. */
  readonly #strangers = new Set<string>();
  /** Those where a server has answered. */
  readonly #reached = new Set<string>();
  /** Those where none does, since when by the monotonic clock, and why. */
  readonly #silent = new Map<string, { readonly sinceMs: number; readonly why: string }>();

  constructor(clock: Pick<Clock, "monotonicMs">, source: ClusterSource) {
    this.#clock = clock;
    this.#source = source;
  }

  /** See `ClusterLooks.isStranger`. */
  isStranger(address: Address): boolean {
    return this.#strangers.has(describeAddress(address));
  }

  /** The server at an address answered, in time for a look or not. */
  answered(name: string): void {
    this.#reached.add(name);
    this.#silent.delete(name);
    this.#told.over(`unreachable ${name}`);
  }

  /** A question to the server at an address failed. */
  failed(name: string, error: ReplicaError): void {
    // No node of a cluster at all.
    if (error.code === "PRIMARY_REFUSED" && error.retry === "never") this.#strangers.add(name);
    if (error.code !== "CONNECT_FAILED" && error.code !== "TIMED_OUT") return;
    const { sinceMs } = this.#silent.get(name) ?? { sinceMs: this.#clock.monotonicMs() };
    this.#silent.set(name, { sinceMs, why: error.message });
  }

  /** Forgets all other addresses. */
  keep(names: ReadonlySet<string>): void {
    for (const all of [this.#strangers, this.#reached, this.#silent]) {
      for (const name of all.keys()) if (!names.has(name)) all.delete(name);
    }
  }

  /** Tells what a look found; each thing once. @param strangers the answers of those that share no node with the view. */
  tell(view: Believed, answers: readonly NodeAnswer[], strangers: readonly NodeAnswer[]): void {
    this.#findStrangers(answers, view.topology);
    this.#tellStrangers(strangers, view);
    this.#tellState(view.topology);
    this.#tellUnreachable(view.topology);
  }

  #tellState({ isOk, slotsAssigned }: Topology): void {
    const uncovered = SLOTS - slotsAssigned;
    if (uncovered > 0) {
      this.#told.warn(
        "slots",
        `${uncovered} of the cluster's ${SLOTS} slots belong to no shard: what is there is followed all the same; redis-cli --cluster fix assigns them`,
      );
    } else this.#told.over("slots", "all slots of the cluster belong to a shard");
    if (!isOk) {
      this.#told.warn(
        "state",
        "the cluster says that it can't work (cluster_state:fail): the shards that are there are followed all the same",
      );
    } else this.#told.over("state", "the cluster says that it works again (cluster_state:ok)");
  }

  /**
   * Those that the cluster itself reaches, and that never answered here: their announced address is wrong for us. One that
   * did answer is slow, or has just died.
   */
  #tellUnreachable({ nodes }: Topology): void {
    const nowMs = this.#clock.monotonicMs();
    for (const { address, health } of nodes.values()) {
      const name = address === undefined ? "" : describeAddress(address);
      const silent = this.#silent.get(name);
      if (silent === undefined) continue;
      if (health !== "ok") this.#silent.delete(name);
      const isNews = !this.#reached.has(name) && !this.#told.has(`unreachable ${name}`);
      if (health !== "ok" || !isNews || nowMs - silent.sinceMs < UNREACHABLE_MS) continue;
      this.#told.warn(
        `unreachable ${name}`,
        `the cluster names a node at ${name}, which can't be reached from here (${silent.why}), though it is well: let it announce an address that can be (cluster-announce-ip, cluster-announce-port, or cluster-announce-hostname with cluster-preferred-endpoint-type hostname)`,
      );
    }
  }

  #tellStrangers(strangers: readonly NodeAnswer[], view: Believed): void {
    const seeds = new Set(this.#source.seeds.map(describeAddress));
    const now = new Set(strangers.map(({ from }) => describeAddress(from)));
    for (const { from } of strangers) {
      const name = describeAddress(from);
      const advice = seeds.has(name)
        ? "take it out of the URL, unless it is to join this one again"
        : "CLUSTER MEET makes it join this one again";
      this.#told.warn(
        `stranger ${name}`,
        `${name} belongs to another cluster than ${describeAddress(view.from)}: it isn't asked for this one's shards; ${advice}`,
      );
    }
    for (const name of this.#reached) if (!now.has(name)) this.#told.over(`stranger ${name}`);
  }

  /** A node that was reset has another id, or knows nobody. */
  #findStrangers(answers: readonly NodeAnswer[], { nodes }: Topology): void {
    for (const { from, topology } of answers) {
      const name = describeAddress(from);
      const { myId } = topology;
      const here = [...nodes.values()].filter(
        ({ address }) => address !== undefined && describeAddress(address) === name,
      );
      const isOther = myId !== undefined && here.length > 0 && !here.some(({ id }) => id === myId);
      const others = [...topology.nodes.keys()].filter((id) => id !== myId);
      const isAlone = nodes.size > 1 && !others.some((id) => nodes.has(id));
      if (isOther || isAlone) this.#strangers.add(name);
      else this.#strangers.delete(name);
    }
  }
}
