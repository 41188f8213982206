import { type Address, describeAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import { type PrimaryTarget, describeTarget } from "../../config/primary-url.ts";
import type { ClusterNode, ShardView } from "../topology/topology.ts";

/** For how long looks must say that a link goes to the wrong node before it is broken: amid a change they may differ. */
const WRONG_MS = 2_000;

/** A link that is up. */
export interface WatchedLink {
  readonly target: PrimaryTarget;
  /** Whether the node says that it is a replica whose own link is down. */
  readonly isCutOff: boolean;
  /** Breaks this link, unless another one took its place. */
  leave(why: ReplicaError): void;
}

export interface LinkWatchOptions {
  readonly number: number;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly readFrom: "primary" | "replica";
  /** See `ClusterLooks.isStranger`. */
  readonly isStranger: (address: Address) => boolean;
  /** Who finds a replica to follow in place of the primary. */
  readonly naming: {
    findReplica(view: ShardView): Promise<{ readonly address: Address } | undefined>;
    avoid(address: Address): void;
  };
}

/**
 * Breaks the link of a shard where it goes to a node that isn't the shard's any more: others have replaced it, and it may
 * not know it yet; it has left the cluster, or was given to another shard. With `--cluster-read-from replica` also where a
 * replica has nothing to pass on, or could be followed in place of the primary.
 */
export class LinkWatch {
  readonly #options: LinkWatchOptions;
  #wrong: { readonly target: PrimaryTarget; readonly sinceMs: number } | undefined;
  #isFinding = false;

  constructor(options: LinkWatchOptions) {
    this.#options = options;
  }

  /**
   * Takes how a look saw the shard.
   * @param view undefined where it isn't shown.
   * @param link undefined where none is up.
   */
  see(view: ShardView | undefined, link: WatchedLink | undefined): void {
    const address = link && addressOf(link.target);
    if (link === undefined || address === undefined) {
      this.#wrong = undefined;
      return;
    }
    const why = this.#whyWrong(view, link, address);
    if (why === undefined) {
      this.#wrong = undefined;
      void this.#findReplica(view, link, address);
      return;
    }
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#wrong?.target !== link.target) this.#wrong = { target: link.target, sinceMs: nowMs };
    if (nowMs - this.#wrong.sinceMs < WRONG_MS) return;
    this.#wrong = undefined;
    if (view?.replicas.some((node) => isAt(node, address))) this.#options.naming.avoid(address);
    this.#leave(link, why);
  }

  #whyWrong(
    view: ShardView | undefined,
    { target, isCutOff }: WatchedLink,
    address: Address,
  ): string | undefined {
    const { number, readFrom, isStranger } = this.#options;
    const name = describeTarget(target);
    if (isStranger(address))
      return `${name} isn't the node any more that it was for shard ${number}`;
    if (view === undefined)
      return `no node of the cluster shows shard ${number} any more, which ${name} was followed for`;
    if (isAt(view.primary, address)) return undefined;
    const replica = view.replicas.find((node) => isAt(node, address));
    if (replica === undefined || readFrom === "primary") {
      const where = view.primary.address;
      return where === undefined
        ? `the cluster has no node of shard ${number} at ${name} any more`
        : `shard ${number} is to be followed from ${describeAddress(where)} now, the cluster says, and no more from ${name}`;
    }
    if (replica.health === "failed")
      return `${name}, a replica of shard ${number}, has failed, the cluster says`;
    if (isCutOff) return `${name}, a replica of shard ${number}, has no link to its primary`;
    return undefined;
  }

  /** The link to the primary stays until a replica has said that it can be followed. */
  async #findReplica(
    view: ShardView | undefined,
    link: WatchedLink,
    address: Address,
  ): Promise<void> {
    const { number, readFrom, naming } = this.#options;
    const isDue = readFrom === "replica" && view !== undefined && isAt(view.primary, address);
    if (!isDue || this.#isFinding) return;
    this.#isFinding = true;
    try {
      const found = await naming.findReplica(view);
      if (found === undefined) return;
      const where = describeAddress(found.address);
      this.#leave(
        link,
        `shard ${number} is to be followed from its replica at ${where} now, and no more from ${describeTarget(link.target)}`,
      );
    } finally {
      this.#isFinding = false;
    }
  }

  #leave(link: WatchedLink, message: string): void {
    link.leave(new ReplicaError("NOT_A_PRIMARY", { message }));
  }
}

/** Undefined for whom REPLICAOF named: nobody else decides about that one. */
function addressOf(target: PrimaryTarget): Address | undefined {
  if (target.kind === "unix" || target.isStranger === true) return undefined;
  return { host: target.host, port: target.port };
}

function isAt(node: ClusterNode, { host, port }: Address): boolean {
  return node.address?.host === host && node.address.port === port;
}
