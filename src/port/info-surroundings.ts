import type { InfoSurroundings } from "../monitor/process-info.ts";
import type { PortContext } from "./call.ts";

/** What INFO says of the port itself. */
export function infoSurroundings(context: PortContext): InfoSurroundings {
  const { version, port, clients, counts, settings } = context;
  return {
    version,
    port,
    listener: `name=${settings.portTls === undefined ? "tcp" : "tls"},bind=${settings.bind},port=${port}`,
    nowMs: context.now(),
    readyLagMs: settings.readyLagMs,
    announced: settings.announce,
    connectedClients: clients.size,
    blockedClients: [...clients].filter(({ blocked }) => blocked).length,
    maxClients: context.maxClients,
    counts,
  };
}
