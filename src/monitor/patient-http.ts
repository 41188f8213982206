import { describeAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { PORT_RETRY_MS, serveWhenFree } from "../base/listen-failure.ts";
import { logger } from "../base/logger.ts";
import { type HttpOptions, type HttpView, serveHttp } from "./http.ts";
import type { Metrics } from "./metrics.ts";

/**
 * Serves HTTP now, or once its port is free: the data matters more than the page, so a taken port is a warning,
 * and nothing else waits for it.
 * What the page draws is recorded meanwhile.
 * @returns a function that stops serving, or trying to.
 * @throws ReplicaError LISTEN_FAILED for an address that this machine doesn't have, or may not use.
 */
export function serveHttpWhenFree(
  options: HttpOptions,
  metrics: Metrics,
  view: HttpView,
  clock: Clock,
): () => void {
  const serve = () => {
    const { port, stop } = serveHttp(options, metrics, view);
    const at = describeAddress({ host: options.host, port });
    logger.info(`serving metrics and health at http://${at}`);
    return stop;
  };
  const stopRecording = view.record();
  const stopServing = serveWhenFree(serve, clock, ({ message, code }) => {
    logger.warn(
      `${message}; metrics and health are not served until it is free (tried every ${PORT_RETRY_MS / 1000} s), the replica runs without them`,
      { code },
    );
  });
  return () => {
    stopServing();
    stopRecording();
  };
}
