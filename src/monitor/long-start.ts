import type { ServedTls } from "../config/served-tls.ts";
import { ServiceManager } from "./service-manager.ts";

/** How long the service manager waits for more from one message on, and how often it gets one. */
const EXTEND_SECONDS = 60;
const EVERY_MS = 10_000;

/** Prometheus's text format. */
const TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Stands in for health and the service manager during a start that may take hours, so that nobody takes it for a hang and
 * begins it anew: `/healthz` answers 200, `/metrics` too, with no metric, everything else 503 and why; the service manager waits on (sd_notify(3),
 * EXTEND_TIMEOUT_USEC). Where that can't be done, nothing is said: whoever comes after it says what is wrong.
 * @param http where health is served; undefined: nowhere.
 * @param tls of health; undefined: without TLS.
 * @param env the environment, in which the service manager's variables stay.
 * @param why what is being done: "the data directory is being filled from the archive".
 * @returns a function that ends both; call it before they are served for good.
 */
export function holdStart(
  http: { readonly host: string; readonly port: number } | undefined,
  tls: ServedTls | undefined,
  env: Readonly<Record<string, string | undefined>>,
  why: string,
): () => void {
  const server = http && serve(http, tls, why);
  const { NOTIFY_SOCKET: socket } = env;
  const manager = socket ? new ServiceManager(socket) : undefined;
  const tell = () =>
    manager?.notify({ EXTEND_TIMEOUT_USEC: String(EXTEND_SECONDS * 1_000_000), STATUS: why });
  tell();
  const telling = setInterval(tell, EVERY_MS);
  return () => {
    clearInterval(telling);
    void server?.stop(true);
  };
}

function serve(
  { host, port }: { readonly host: string; readonly port: number },
  tls: ServedTls | undefined,
  why: string,
) {
  const answers: Readonly<Record<string, () => Response>> = {
    "/healthz": () => new Response("ok\n"),
    // To Prometheus, a target that answers anything but 200 is down.
    "/metrics": () => new Response(`# ${why}\n`, { headers: { "content-type": TEXT_FORMAT } }),
  };
  const notReady = () => new Response(`not ready: ${why}\n`, { status: 503 });
  try {
    return Bun.serve({
      hostname: host,
      port,
      ...(tls && { tls: tls.options }),
      fetch: (request) => (answers[URL.parse(request.url)?.pathname ?? ""] ?? notReady)(),
    });
  } catch {
    return undefined;
  }
}
