import { ReplicaError } from "../../base/errors.ts";
import type { ArrayHead, Reply } from "../../resp/reply-reader.ts";

/** A reply with its elements in it. */
export type ReplyTree = Reply | { readonly elements: readonly ReplyTree[] };

/** CLUSTER SHARDS nests four arrays: shards, a shard, its nodes, a node. */
const MAX_DEPTH = 8;

/**
 * Puts replies together whose elements came after their heads, as `SideLink.ask` returns them.
 * @throws ReplicaError PROTOCOL for arrays that are nested too deeply.
 */
export function replyTrees(replies: readonly (Reply | ArrayHead)[]): ReplyTree[] {
  const roots: ReplyTree[] = [];
  const open: { readonly elements: ReplyTree[]; left: number }[] = [];
  for (const reply of replies) {
    const isArray = "elements" in reply;
    const elements: ReplyTree[] = [];
    (open.at(-1)?.elements ?? roots).push(isArray ? { elements } : reply);
    const parent = open.at(-1);
    if (parent !== undefined) parent.left--;
    if (isArray) open.push({ elements, left: reply.elements });
    if (open.length > MAX_DEPTH) {
      throw new ReplicaError("PROTOCOL", {
        message: `got arrays that are nested more than ${MAX_DEPTH} deep: is this a Redis port?`,
      });
    }
    while (open.at(-1)?.left === 0) open.pop();
  }
  return roots;
}

/** The text of a reply; undefined for an array and for an error. */
export function textOf(tree: ReplyTree | undefined): string | undefined {
  if (tree === undefined || "elements" in tree || tree.isError) return undefined;
  return tree.text;
}

/** The text of an error; undefined for anything else. */
export function errorOf(tree: ReplyTree | undefined): string | undefined {
  if (tree === undefined || "elements" in tree || !tree.isError) return undefined;
  return tree.text;
}

/** The elements of an array; undefined for anything else. */
export function elementsOf(tree: ReplyTree | undefined): readonly ReplyTree[] | undefined {
  return tree !== undefined && "elements" in tree ? tree.elements : undefined;
}

/** The values by their names of an array that alternates both, as RESP2 shows a map; undefined for anything else. */
export function fieldsOf(tree: ReplyTree | undefined): Map<string, ReplyTree> | undefined {
  const elements = elementsOf(tree);
  if (elements === undefined || elements.length % 2 === 1) return undefined;
  const fields = new Map<string, ReplyTree>();
  for (let at = 0; at < elements.length; at += 2) {
    const name = textOf(elements[at]);
    if (name === undefined) return undefined;
    fields.set(name, elements[at + 1]!);
  }
  return fields;
}
