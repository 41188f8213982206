import type { ServerKind } from "./servers.ts";

/** The servers that know of full syncs on two links, and the arguments that turn them on. */
export const TWO_LINKS: Partial<Record<ServerKind, readonly string[]>> = {
  "redis-8.0": [],
  "valkey-8.1": ["--dual-channel-replication-enabled", "yes"],
  "valkey-9": ["--dual-channel-replication-enabled", "yes"],
};
