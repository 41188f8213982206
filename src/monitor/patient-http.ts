import { describeAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { PORT_RETRY_MS, serveWhenFree } from "../base/listen-failure.ts";
import { logger } from "../base/logger.ts";
import { type HttpOptions, type HttpView, serveHttp } from "./http.ts";
import type { Metrics } from "./metrics.ts";

/**
 * Serves HTTP now, or once its port is free: the data matters more than the page, so a taken port is a warning,
 * and nothing else waits for it. Begins anew on the same port when its certificate is renewed.
 * What the page draws is recorded meanwhile.
 * @returns a function that stops serving, or trying to.
 * @throws ReplicaError LISTEN_FAILED for an address that this machine doesn't have, or may not use; USAGE for a certificate
 * that can't be used.
 */
export function serveHttpWhenFree(
  options: HttpOptions,
  metrics: Metrics,
  view: HttpView,
  clock: Clock,
): () => void {
  const { tls } = options;
  let { port } = options;
  let isRenewal = false;
  const serve = () => {
    const server = serveHttp({ ...options, port }, metrics, view);
    ({ port } = server);
    const at = describeAddress({ host: options.host, port });
    logger.info(`serving metrics and health at ${tls === undefined ? "http" : "https"}://${at}`);
    return () => server.stop(!isRenewal);
  };
  const begin = () =>
    serveWhenFree(serve, clock, ({ message, code }) => {
      logger.warn(
        `${message}; metrics and health are not served until it is free (tried every ${PORT_RETRY_MS / 1000} s), the replica runs without them`,
        { code },
      );
    });
  let stop = begin();
  const stopRecording = view.record();
  // Bun.serve takes its certificate once and for all. Each connection gets one answer, which it still gets.
  const endRenewals = tls?.onRenewed(() => {
    isRenewal = true;
    stop();
    isRenewal = false;
    stop = begin();
  });
  return () => {
    endRenewals?.();
    stop();
    stopRecording();
  };
}
