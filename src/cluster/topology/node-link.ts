import { type Address, describeAddress } from "../../base/address.ts";
import { limits } from "../../config/limits.ts";
import type { ClusterSource } from "../../config/primary-source.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import type { PrimaryLogin } from "../../upstream/link/primary-login.ts";
import { SideLink } from "../../upstream/link/side-link.ts";
import type { NodeAnswer } from "./believe.ts";
import { type NodeSelf, readSelf, SELF_QUESTIONS } from "./node-self.ts";
import { readTopology, TOPOLOGY_QUESTIONS } from "./read-topology.ts";
import { replyTrees } from "./reply-tree.ts";

/** What it takes to ask a node. */
export interface NodeLinkOptions {
  readonly source: ClusterSource;
  /** Every node's: a cluster has one login. */
  readonly login: Pick<PrimaryLogin, "read" | "username">;
  readonly settings: Pick<Settings, "tls" | "syncTimeoutMs">;
}

/** A node of a cluster as something to connect to. */
export function nodeTarget(source: ClusterSource, { host, port }: Address): PrimaryTarget {
  const { tls, username, password } = source;
  return { kind: tls ? "tls" : "tcp", host, port, username, password };
}

/** For how long a node isn't asked again for its shard's id that refused it, or doesn't know the question. */
const MUTE_MS = 60 * 60_000;

/** Asks one node what it sees of its cluster, over a connection that stays open. One question at a time. */
export class NodeLink {
  readonly address: Address;
  readonly #options: NodeLinkOptions;
  readonly #side: SideLink;
  /** Until when it isn't asked for its shard's id, by the monotonic clock. */
  #isMuteUntilMs = 0;

  constructor(address: Address, options: NodeLinkOptions) {
    this.address = address;
    this.#options = options;
    const { source, login, settings } = options;
    this.#side = new SideLink(nodeTarget(source, address), {
      login,
      tls: settings.tls,
      syncTimeoutMs: settings.syncTimeoutMs,
      maxReplies: limits.clusterReplies,
      peer: "the node",
    });
  }

  /** As it is told to people. */
  get name(): string {
    return describeAddress(this.address);
  }

  /** True while it hasn't answered the last question. */
  get isAsking(): boolean {
    return this.#side.isAsking;
  }

  /** @throws ReplicaError as `SideLink.ask` and `readTopology`. */
  async ask(): Promise<NodeAnswer> {
    // The last question: each that is refused is a line in the node's ACL LOG, or counts as an error there.
    const isMute = performance.now() < this.#isMuteUntilMs;
    const questions = isMute ? TOPOLOGY_QUESTIONS.slice(0, -1) : TOPOLOGY_QUESTIONS;
    const replies = await this.#side.ask(...questions);
    const { isError, text } = replies.at(-1)!;
    const isRefused = !isMute && isError && /^NOPERM|unknown subcommand/i.test(text);
    if (isRefused) this.#isMuteUntilMs = performance.now() + MUTE_MS;
    const { source, login } = this.#options;
    const asked = { host: this.address.host, tls: source.tls };
    return {
      from: this.address,
      topology: readTopology(replyTrees(replies), asked, login.username),
    };
  }

  /** Asks the node who it is. @throws ReplicaError as `SideLink.ask`. */
  async self(): Promise<NodeSelf> {
    const replies = await this.#side.ask(...SELF_QUESTIONS);
    const asked = { host: this.address.host, tls: this.#options.source.tls };
    return readSelf(replyTrees(replies), asked);
  }

  close(): void {
    this.#side.close();
  }
}
