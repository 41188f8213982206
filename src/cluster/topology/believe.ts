import type { Address } from "../../base/address.ts";
import type { OpenMark, ShardView, Topology } from "./topology.ts";

/** What one node said. */
export interface NodeAnswer {
  readonly from: Address;
  readonly topology: Topology;
}

/** What earlier looks have found. */
export interface KnownCluster {
  /** The highest epoch ever seen; 0 before the first. */
  readonly highestEpoch: number;
  /** Every node and every shard that was ever seen; empty before the first look. */
  readonly nodeIds: ReadonlySet<string>;
  readonly shardIds: ReadonlySet<string>;
}

/** The view of a cluster that counts. */
export interface Believed {
  readonly from: Address;
  readonly topology: Topology;
  /** The slots that each primary says it is migrating, by its id; those that didn't answer have no entry. */
  readonly open: ReadonlyMap<string, readonly OpenMark[]>;
}

/** What comes of some answers. */
export type Verdict =
  | {
      readonly kind: "believed";
      readonly view: Believed;
      readonly strangers: readonly NodeAnswer[];
    }
  /** Each is older than what was seen before, or knows of no slots: a node that was cut off, or left the cluster. */
  | { readonly kind: "stale"; readonly best: NodeAnswer }
  /** Nobody who answers shares a node or a shard with what is known. */
  | { readonly kind: "another"; readonly best: NodeAnswer };

/**
 * Chooses which of several views of a cluster to believe: the highest epoch, then the most slots assigned, then the most
 * nodes. A view with a lower epoch than one seen before counts only where most of the primaries that own slots in it
 * answer, or of as many as one look asks, and all agree: then the cluster itself was set back.
 * @param answers at least one.
 * @param most how many nodes one look asks at most.
 */
export function believe(
  answers: readonly NodeAnswer[],
  known: KnownCluster,
  most = Infinity,
): Verdict {
  const isFirst = known.nodeIds.size === 0;
  const related = isFirst ? [] : answers.filter(({ topology }) => isRelated(topology, known));
  if (!isFirst && related.length === 0) return { kind: "another", best: best(answers) };
  // At first, whoever answers first tells which cluster it is.
  const ours = isFirst ? relatedTo(answers[0]!, answers) : related;
  const strangers = answers.filter((answer) => !ours.includes(answer));
  const chosen = best(ours);
  const { topology } = chosen;
  const isEmpty = !isFirst && topology.slotsAssigned === 0;
  const isOlder = topology.epoch < known.highestEpoch && !isBorneOut(topology, ours, most);
  if (isEmpty || isOlder) return { kind: "stale", best: chosen };
  return { kind: "believed", view: joined(chosen, ours), strangers };
}

function best(answers: readonly NodeAnswer[]): NodeAnswer {
  return answers.toSorted(
    ({ topology: one }, { topology: other }) =>
      other.epoch - one.epoch ||
      other.slotsAssigned - one.slotsAssigned ||
      other.nodes.size - one.nodes.size,
  )[0]!;
}

function isRelated({ nodes, shards }: Topology, { nodeIds, shardIds }: KnownCluster): boolean {
  return (
    [...nodes.keys()].some((id) => nodeIds.has(id)) ||
    shards.some(({ shardId }) => shardId !== undefined && shardIds.has(shardId))
  );
}

function relatedTo(first: NodeAnswer, answers: readonly NodeAnswer[]): NodeAnswer[] {
  const ids = new Set(first.topology.nodes.keys());
  return answers.filter(({ topology }) => [...topology.nodes.keys()].some((id) => ids.has(id)));
}

/** Whether most of the primaries that own slots in a view answered, and all with its epoch. */
function isBorneOut(
  { epoch, shards }: Topology,
  answers: readonly NodeAnswer[],
  most: number,
): boolean {
  if (answers.some(({ topology }) => topology.epoch !== epoch)) return false;
  const owners = shards.filter(({ slots }) => slots.length > 0).map(({ primary }) => primary.id);
  const answered = new Set(answers.map(({ topology }) => topology.myId));
  return owners.filter((id) => answered.has(id)).length * 2 > Math.min(owners.length, most);
}

/**
 * The chosen view, with what each node alone tells: the id of its shard, and its open slots. A node that says of itself
 * that it is a replica is none's primary, whatever others know yet.
 */
function joined({ from, topology }: NodeAnswer, answers: readonly NodeAnswer[]): Believed {
  const shardIds = new Map<string, string>();
  const demoted = new Set<string>();
  const open = new Map<string, readonly OpenMark[]>();
  for (const { topology: told } of answers) {
    const me = told.nodes.get(told.myId ?? "");
    if (me === undefined) continue;
    if (me.role === "primary") open.set(me.id, me.open);
    else demoted.add(me.id);
    const mine = told.shards.find(
      ({ primary, replicas }) => primary.id === me.id || replicas.some(({ id }) => id === me.id),
    );
    if (mine?.shardId !== undefined) shardIds.set(me.id, mine.shardId);
  }
  const shards = topology.shards.flatMap((view): ShardView[] => {
    const ids = [view.primary, ...view.replicas].map(({ id }) => shardIds.get(id));
    const shardId = view.shardId ?? ids.find((id) => id !== undefined);
    if (!demoted.has(view.primary.id)) return [{ ...view, shardId }];
    // Its slots are about to be claimed by another one.
    const primary = { ...view.primary, role: "replica" as const };
    return view.slots.length === 0 ? [] : [{ ...view, shardId, primary }];
  });
  return { from, topology: { ...topology, shards }, open };
}
