import { type Address, describeAddress } from "../../base/address.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { ClusterSource } from "../../config/primary-source.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import { SLOTS, slotsIn } from "../../cluster/slots/slot-ranges.ts";
import { NodeLink, type NodeLinkOptions, nodeTarget } from "../../cluster/topology/node-link.ts";
import { announced, type Topology } from "../../cluster/topology/topology.ts";
import type { Parcel } from "./parcel.ts";
import type { Routes, Way } from "./routes.ts";
import type { TargetLink } from "./target-link.ts";

/** A cluster: each key goes to the node that has its slot, over one connection a node. */
export class ClusterRoutes implements Routes {
  readonly #options: NodeLinkOptions;
  readonly #connect: (target: PrimaryTarget) => Promise<TargetLink>;
  /** By slot. */
  readonly #owners = new Map<number, Address>();
  readonly #links = new Map<string, TargetLink>();
  /** Every node that was named as an owner, for when the seeds are gone. */
  readonly #known = new Map<string, Address>();
  readonly #signal: AbortSignal;
  #isDoubtful = true;

  constructor(
    options: NodeLinkOptions,
    connect: (target: PrimaryTarget) => Promise<TargetLink>,
    signal: AbortSignal,
  ) {
    this.#options = options;
    this.#connect = connect;
    this.#signal = signal;
  }

  get #source(): ClusterSource {
    return this.#options.source;
  }

  /** The nodes that have these slots, with a connection each. @throws ReplicaError where one can't be reached. */
  async nodesOf(slots: Iterable<number>): Promise<readonly TargetLink[]> {
    await this.#refresh();
    const links = new Map<string, TargetLink>();
    for (const slot of slots) {
      const address = this.#ownerOf(slot);
      links.set(describeAddress(address), await this.#linkTo(address));
    }
    return [...links.values()];
  }

  async ways(parcels: readonly Parcel[], _signal: AbortSignal): Promise<readonly Way[]> {
    const groups = new Map<string, Parcel[]>();
    const lost: Parcel[] = [];
    let broken: ReplicaError | undefined;
    try {
      if (this.#isDoubtful) await this.#refresh();
    } catch (error) {
      return [{ parcels, broken: asReplicaError(error) }];
    }
    for (const parcel of parcels) {
      try {
        const address = parcel.askAt ?? describeAddress(this.#ownerOf(parcel.slot));
        const group = groups.get(address);
        if (group === undefined) groups.set(address, [parcel]);
        else group.push(parcel);
      } catch (error) {
        lost.push(parcel);
        broken = asReplicaError(error);
      }
    }
    const ways = await Promise.all([...groups].map(([name, those]) => this.#way(name, those)));
    return broken === undefined ? ways : [...ways, { parcels: lost, broken }];
  }

  moved(slot: number, said: string, link: TargetLink): void {
    const address = addressIn(said, link);
    if (slot < SLOTS && address !== undefined) this.#owns(slot, address);
    else this.#isDoubtful = true;
  }

  asked(said: string, link: TargetLink): string | undefined {
    const address = addressIn(said, link);
    return address === undefined ? undefined : describeAddress(address);
  }

  doubt(link: TargetLink | undefined): void {
    this.#isDoubtful = true;
    link?.close();
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
  }

  async #way(name: string, parcels: readonly Parcel[]): Promise<Way> {
    try {
      const address = addressIn(name, undefined);
      if (address === undefined) throw unreadable(name);
      return { parcels, link: await this.#linkTo(address) };
    } catch (error) {
      this.#isDoubtful = true;
      return { parcels, broken: asReplicaError(error) };
    }
  }

  #ownerOf(slot: number): Address {
    const address = this.#owners.get(slot);
    if (address !== undefined) return address;
    this.#isDoubtful = true;
    const message = `no node of the cluster has slot ${slot}`;
    throw new ReplicaError("TARGET_REFUSED", { message });
  }

  async #linkTo(address: Address): Promise<TargetLink> {
    const name = describeAddress(address);
    const open = this.#links.get(name);
    if (open !== undefined && !open.isBroken) return open;
    const link = await this.#connect(nodeTarget(this.#source, address));
    this.#links.set(name, link);
    return link;
  }

  #owns(slot: number, address: Address): void {
    this.#owners.set(slot, address);
    this.#known.set(describeAddress(address), address);
  }

  /** Asks the nodes in turn who has which slots; the first one that sees a whole cluster decides, else the first at all. */
  async #refresh(): Promise<void> {
    let failure: unknown;
    let partial: Topology | undefined;
    const nodes = new Map(this.#known);
    for (const seed of this.#source.seeds) nodes.set(describeAddress(seed), seed);
    for (const address of nodes.values()) {
      this.#signal.throwIfAborted();
      const link = new NodeLink(address, this.#options);
      const stop = () => link.close();
      this.#signal.addEventListener("abort", stop, { once: true });
      try {
        const { topology } = await link.ask();
        if (topology.isOk) return this.#take(topology);
        partial ??= topology;
      } catch (error) {
        failure ??= error;
      } finally {
        this.#signal.removeEventListener("abort", stop);
        link.close();
      }
    }
    if (partial === undefined) throw failure;
    this.#take(partial);
  }

  #take(topology: Topology): void {
    for (const { primary, slots } of topology.shards) {
      const { address } = primary;
      if (address !== undefined) for (const slot of slotsIn(slots)) this.#owns(slot, address);
    }
    this.#isDoubtful = false;
  }
}

/**
 * Reads an address as `MOVED` and `ASK` write it: `host:port`, IPv6 without brackets; without a host it is the one that
 * was asked ("Redis cluster specification"). Undefined for anything else.
 */
function addressIn(text: string, link: TargetLink | undefined): Address | undefined {
  const colon = text.lastIndexOf(":");
  const named = text.slice(0, Math.max(0, colon)).replace(/^\[(.*)\]$/, "$1");
  const asked = link?.target;
  const host = named !== "" || asked === undefined || asked.kind === "unix" ? named : asked.host;
  try {
    return announced(host, text.slice(colon + 1));
  } catch (error) {
    if (error instanceof ReplicaError) return undefined;
    throw error;
  }
}

function unreadable(name: string): ReplicaError {
  return new ReplicaError("PROTOCOL", { message: `the cluster names the address ${name}` });
}

function asReplicaError(error: unknown): ReplicaError {
  if (error instanceof ReplicaError) return error;
  throw error;
}
