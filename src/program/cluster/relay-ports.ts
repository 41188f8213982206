import { describeAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { usageError } from "../../base/errors.ts";
import { PORT_RETRY_MS, serveWhenFree } from "../../base/listen-failure.ts";
import { logger } from "../../base/logger.ts";
import type { Settings } from "../../config/settings.ts";
import type { Serving } from "../../port/command-table.ts";
import { Port } from "../../port/port.ts";

const LAST_PORT = 65_535;

/**
 * The port of a shard's relay: the one that --relay-ports names for shard 1, and those behind it for the others.
 * @returns undefined where shards have none, or this one can't have that port; see `warnOfRelayPort`.
 */
export function relayPortOf(
  { cluster, port }: Pick<Settings, "cluster" | "port">,
  number: number,
): number | undefined {
  if (cluster.relayPorts === undefined) return undefined;
  const relayPort = cluster.relayPorts + number - 1;
  return relayPort > LAST_PORT || relayPort === port ? undefined : relayPort;
}

/** Says that a shard can't have the port that --relay-ports means for it. */
export function warnOfRelayPort(
  settings: Pick<Settings, "cluster" | "port">,
  number: number,
): void {
  const { relayPorts } = settings.cluster;
  if (relayPorts === undefined || relayPortOf(settings, number) !== undefined) return;
  const port = relayPorts + number - 1;
  const why = port > LAST_PORT ? `there is no port ${port}` : `port ${port} is that of --port`;
  logger.warn(`shard ${number} feeds no replica: ${why}; name another one for --relay-ports`);
}

/** @throws ReplicaError USAGE where shard 1 could have no port already. */
export function refuseRelayPorts({ cluster, port }: Pick<Settings, "cluster" | "port">): void {
  if (cluster.relayPorts === undefined || cluster.relayPorts !== port) return;
  throw usageError(`--relay-ports ${port} is the port of --port, too: name another one`);
}

/**
 * Serves a shard now, or once its port is free: meanwhile the shard is followed all the same.
 * @returns what stops serving, or trying to.
 * @throws ReplicaError LISTEN_FAILED for an address that this machine doesn't have, or may not use.
 */
export function relayWhenFree(
  settings: Settings,
  version: string,
  serving: Serving,
  clock: Clock,
): Pick<Port, "stop"> {
  const serve = () => {
    const port = new Port(settings, version);
    port.serve(serving);
    const at = describeAddress({ host: settings.bind, port: port.port });
    logger.info(`serving this shard at ${at}`);
    return () => port.stop();
  };
  const stop = serveWhenFree(serve, clock, ({ message, code }) => {
    const every = `tried every ${PORT_RETRY_MS / 1000} s`;
    logger.warn(`${message}; this shard feeds no replica until it is free (${every})`, { code });
  });
  return { stop };
}
