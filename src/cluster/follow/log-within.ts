import { AsyncLocalStorage } from "node:async_hooks";
import { type Properties, surroundLogs } from "../../base/logger.ts";

const within = new AsyncLocalStorage<Properties>();
surroundLogs(() => within.getStore());

/**
 * Runs `act`; all that it logs carries these properties, also later, from timers and sockets that it made. One process
 * follows many shards, and a hundred places log for each: none of them needs to know which one it belongs to.
 */
export function logWithin<T>(properties: Properties, act: () => T): T {
  return within.run(properties, act);
}
