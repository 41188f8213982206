import { type Address, describeAddress } from "../../base/address.ts";
import type { ClusterLedger } from "../ledger/cluster-ledger.ts";
import type { ShardBook } from "./shard-book.ts";

/** How often members are recorded that are the same as before. */
const AGAIN_MS = 60 * 60_000;

/** Records which nodes the last view had: those, and the URL's, are asked after a start, with the login. */
export class MemberRecorder {
  readonly #ledger: Pick<ClusterLedger, "members" | "sawAllMembers">;
  #recorded = "";
  #recordedMs = -Infinity;

  constructor(ledger: Pick<ClusterLedger, "members" | "sawAllMembers">) {
    this.#ledger = ledger;
  }

  /** Takes a look whose shards `book` knows. @throws ReplicaError of the database. */
  record(book: Pick<ShardBook, "shards" | "view">, atMs: number): void {
    const members = book.shards.flatMap(({ number }) => {
      const view = book.view(number);
      return view === undefined ? [] : [{ number, nodes: [view.primary, ...view.replicas] }];
    });
    const shown = members
      .flatMap(({ number, nodes }) =>
        nodes.map(
          ({ id, address }) =>
            `${number} ${id} ${address === undefined ? "" : describeAddress(address)}`,
        ),
      )
      .toSorted()
      .join("\n");
    if (shown === this.#recorded && Math.abs(atMs - this.#recordedMs) < AGAIN_MS) return;
    const rows = members.map(
      ({ number, nodes }) =>
        [
          number,
          nodes.map(({ id, address }) => ({ nodeId: id, host: "", port: 0, ...address })),
        ] as const,
    );
    this.#ledger.sawAllMembers(atMs, new Map(rows));
    this.#recorded = shown;
    this.#recordedMs = atMs;
  }

  /** Where the nodes of the last view are. A node that left before may be anybody's by now. */
  addresses(): Address[] {
    const members = this.#ledger.members();
    const lastMs = members.reduce((most, one) => Math.max(most, one.lastMs), 0);
    return members
      .filter((one) => one.lastMs === lastMs && one.host !== "")
      .map(({ host, port }) => ({ host, port }));
  }
}
