import { describeAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { ReplicaError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { type HttpOptions, serveHttp } from "./http.ts";
import type { Metrics } from "./metrics.ts";

/** How often a taken port is tried again: a scrape or two is missed, and the log stays quiet. */
const RETRY_MS = 5_000;

/**
 * Serves HTTP now, or once its port is free: the data matters more than the page, so a taken port is a warning,
 * and nothing else waits for it.
 * @returns a function that stops serving, or trying to.
 * @throws ReplicaError LISTEN_FAILED for an address that this machine doesn't have, or may not use.
 */
export function serveHttpWhenFree(
  options: HttpOptions,
  metrics: Metrics,
  status: ReplicaStatus,
  clock: Clock,
): () => void {
  const stopping = new AbortController();
  let stopServing: () => void = () => undefined;
  const serve = (): void => {
    const { port, stop } = serveHttp(options, metrics, status);
    stopServing = stop;
    const at = describeAddress({ host: options.host, port });
    logger.info(`serving metrics and health at http://${at}`);
  };
  const serveOnceFree = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await clock.sleep(RETRY_MS, stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        return serve();
      } catch (error) {
        // The first failure was told; the address may come back as well as the port.
        if (!(error instanceof ReplicaError)) throw error;
      }
    }
  };
  try {
    serve();
  } catch (error) {
    if (!(error instanceof ReplicaError) || error.code !== "PORT_IN_USE") throw error;
    logger.warn(
      `${error.message}; metrics and health are not served until it is free (tried every ${RETRY_MS / 1000} s), the replica runs without them`,
      { code: error.code },
    );
    void serveOnceFree();
  }
  return () => {
    stopping.abort();
    stopServing();
  };
}
