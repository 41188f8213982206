import * as readline from "node:readline/promises";
import { ReplicaError, usageError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import { parsePrimaryUrl, sameEndpoint } from "../../config/primary-url.ts";
import type { Target } from "../../inspect/deliver/target.ts";
import type { Output } from "../terminal/output.ts";
import type { IntoWanted } from "./into-wanted.ts";

/** What a kept history knows of the primary that it comes from. */
export interface FollowedPrimary {
  /** The history as it was given, for people. */
  readonly source: string;
  /** The replication ids of all that is kept. */
  readonly replicationIds: ReadonlySet<string>;
  /** The URLs of those that were followed, without passwords. */
  readonly urls: readonly string[];
}

/**
 * Whether a target is a primary that the history comes from: by the id of its replication, which no other data has, or by its
 * address. The replica that took over from it is one, too.
 */
export function isFollowed(
  { servers }: Pick<Target, "servers">,
  { replicationIds, urls }: FollowedPrimary,
): boolean {
  if (servers.some(({ replids }) => replids.some((id) => replicationIds.has(id)))) return true;
  return urls.some((url) => {
    try {
      const kept = parsePrimaryUrl(url);
      return servers.some(({ endpoint }) => sameEndpoint(kept, endpoint));
    } catch (error) {
      // The name of a cluster's shard is no URL.
      if (error instanceof ReplicaError) return false;
      throw error;
    }
  });
}

/**
 * Lets nobody write into the live primary by mistake: it must be named once more, by --confirm, or with --replace on a
 * terminal by typing its address.
 * @throws ReplicaError USAGE where it isn't, or --confirm names another server; the signal's reason.
 */
export async function refuseUnnamed(
  target: Target,
  followed: FollowedPrimary,
  { confirm, replace, isDryRun }: IntoWanted,
  { stderr, signal }: { readonly stderr: Output; readonly signal: AbortSignal },
): Promise<void> {
  const { address, name } = target;
  if (confirm !== undefined) {
    if (confirm === address) return;
    throw usageError(`--confirm is ${JSON.stringify(confirm)}, but --into leads to ${address}`);
  }
  if (!isFollowed(target, followed)) return;
  const is = target.isCluster ? "is the cluster of the primary" : "is the primary";
  const which = `${name} ${is} that ${followed.source} comes from`;
  if (isDryRun) {
    logger.info(`${which}: to write into it, add --confirm ${address}`);
    return;
  }
  if (!replace) {
    throw usageError(
      `${which}: to bring keys back into it, name it once more with --confirm ${address}; what exists there then stays`,
    );
  }
  const warning = `${which}, and --replace overwrites what was written there since`;
  if (!stderr.isTty || process.stdin.isTTY !== true) {
    throw usageError(`${warning}: name it once more with --confirm ${address}`);
  }
  stderr.write(`${warning}.\n`);
  const typed = await ask(`Type ${address} to go on: `, signal);
  if (typed.trim() === address) return;
  throw usageError(`what was typed is not ${address}: nothing was written`);
}

async function ask(question: string, signal: AbortSignal): Promise<string> {
  // Without its terminal mode, which would keep Ctrl-C to itself.
  const streams = { input: process.stdin, output: process.stderr, terminal: false };
  const lines = readline.createInterface(streams);
  const ended = Promise.withResolvers<string>();
  lines.once("close", () => ended.resolve(""));
  try {
    return await Promise.race([lines.question(question, { signal }), ended.promise]);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    lines.close();
  }
}
