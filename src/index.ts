/*
 * What programs import as "bun-replica". Nothing runs when it is imported, and nearly nothing is loaded: what a call needs
 * comes with its first use.
 */
import { ReplicaError as OwnError } from "./base/errors.ts";
import type * as api from "./library/api/bun-replica.d.ts";
import { Follower } from "./library/following.ts";
import { answered, iterated } from "./library/rejections.ts";

export type * from "./library/api/bun-replica.d.ts";

export const ReplicaError: typeof api.ReplicaError = OwnError;

export const follow: typeof api.follow = (options, more = {}) => new Follower(options, more);

export const snapshots: typeof api.snapshots = async (source, options = {}) =>
  await answered(options, async (signal) => {
    const { listSnapshots } = await import("./library/snapshots.ts");
    return await listSnapshots(source, options, signal);
  });

export const verify: typeof api.verify = async (source, options = {}) =>
  await answered(options, async (signal) => {
    const { verifySource } = await import("./library/verify.ts");
    return await verifySource(source, options, signal);
  });

export const restore: typeof api.restore = async (source, target, options = {}) =>
  await answered(options, async (signal) => {
    const { restoreSource } = await import("./library/restore.ts");
    return await restoreSource(source, target, options, signal);
  });

export const readKeys: typeof api.readKeys = (source, options = {}) =>
  iterated(options, async function* (signal) {
    const { keysOf } = await import("./library/read-keys.ts");
    yield* keysOf(source, options, signal);
  });

export const readLog: typeof api.readLog = (source, options = {}) =>
  iterated(options, async function* (signal) {
    const { logOf } = await import("./library/read-log.ts");
    yield* logOf(source, options, signal);
  });
