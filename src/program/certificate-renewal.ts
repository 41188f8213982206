import { logger } from "../base/logger.ts";
import type { Settings } from "../config/settings.ts";

/**
 * Reads the certificates that the port and HTTP are served with, so that a wrong one is an error before anything else is done.
 * @returns what reads them anew, as SIGHUP asks; undefined where neither is served over TLS.
 * @throws ReplicaError USAGE for one that can't be used.
 */
export function certificateRenewal({
  portTls,
  httpTls,
}: Pick<Settings, "portTls" | "httpTls">): (() => void) | undefined {
  const served = [portTls, httpTls].filter((tls) => tls !== undefined);
  if (served.length === 0) return undefined;
  for (const tls of served) void tls.options;
  return () => {
    for (const tls of served) {
      const { cert } = tls.files;
      try {
        tls.renew();
        logger.info(`SIGHUP: new connections get the certificate that ${cert} holds now`);
      } catch (failure) {
        const why = failure instanceof Error ? failure.message : String(failure);
        logger.error(
          `SIGHUP: the certificate stays as it was: ${why}; mend the file and send SIGHUP again`,
        );
      }
    }
  };
}
