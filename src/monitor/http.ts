import { formatBytes } from "../base/quantity.ts";
import { listenFailure } from "../base/listen-failure.ts";
import type { Metrics } from "./metrics.ts";
import type { ReplicaStatus } from "../replica/status.ts";

/** Seconds after which a connection that says nothing is closed. */
const IDLE_SECONDS = 10;
/** Nobody has anything to send here. */
const MAX_BODY_BYTES = 1024;

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  /** So long may the oldest byte wait until it is durable, for `/readyz`; milliseconds. */
  readonly readyLagMs: number;
}

/**
 * Serves `/metrics`, `/healthz` (the process lives), `/readyz` (it follows, and what it follows is
 * durable) and a page for people.
 * @throws ReplicaError PORT_IN_USE, LISTEN_FAILED.
 */
export function serveHttp(
  options: HttpOptions,
  metrics: Metrics,
  status: ReplicaStatus,
): { readonly port: number; stop(): void } {
  const routes: Record<string, () => Response | Promise<Response>> = {
    "/metrics": async () =>
      new Response(await metrics.text(), { headers: { "content-type": metrics.contentType } }),
    "/healthz": () => new Response("ok\n"),
    "/readyz": () => {
      const why = status.whyNotReady(options.readyLagMs);
      return why === undefined
        ? new Response("ready\n")
        : new Response(`not ready: ${why}\n`, { status: 503 });
    },
    "/": () => page(status),
  };
  const answer = (request: Request): Response | Promise<Response> => {
    // What a Host header makes of the URL needn't be one.
    const path = URL.parse(request.url)?.pathname;
    if (path === undefined) return new Response("no such address\n", { status: 400 });
    const route = routes[path];
    if (route === undefined) return new Response("there is no such page\n", { status: 404 });
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("GET and HEAD\n", { status: 405, headers: { allow: "GET, HEAD" } });
    }
    return route();
  };
  try {
    const server = Bun.serve({
      hostname: options.host,
      port: options.port,
      idleTimeout: IDLE_SECONDS,
      maxRequestBodySize: MAX_BODY_BYTES,
      fetch: async (request) => theLast(await answer(request)),
      error: () => theLast(new Response("it failed\n", { status: 500 })),
    });
    return { port: server.port ?? options.port, stop: () => void server.stop(true) };
  } catch (cause) {
    const wanted = { what: "serve HTTP", addressFlag: "--http", portFlag: "--http" } as const;
    throw listenFailure(options, wanted, cause);
  }
}

/**
 * The only answer of its connection. Requests that stand behind it would all be answered in one turn of the
 * event loop: of some hundred connections, that keeps all else waiting for a minute.
 */
function theLast(response: Response): Response {
  response.headers.set("connection", "close");
  return response;
}

function page(status: ReplicaStatus): Response {
  const { link, syncs, relay, cursors } = status;
  const generation = status.currentGeneration;
  const rows: [string, string][] = [
    ["primary", status.isFollowing ? status.primary.name : "none"],
    ["state", link.state],
    ["offset received", String(cursors.received)],
    ["offset durable", String(cursors.durable)],
    ["generation", String(generation?.id ?? "none")],
    ["snapshot", formatBytes(generation?.rdbBytes ?? 0)],
    ["log", formatBytes(cursors.logBytes)],
    ["feeds", `${relay.downstreams.length} replicas, ${relay.countByState.online} online`],
    ["syncs", `${syncs.full} full, ${syncs.partial} partial`],
    ["last error", status.lastBreak?.message ?? "none"],
  ];
  const cells = rows
    .map(([name, value]) => `<tr><th>${name}<td>${Bun.escapeHTML(value)}`)
    .join("\n");
  const html = `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>replica: ${link.state}</title>
<style>body{font:15px system-ui;margin:2em}th{text-align:left;padding:.2em 2em .2em 0;font-weight:600}</style>
<h1>replica</h1><table>
${cells}
</table>
`;
  return new Response(html, {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
      "cache-control": "no-store",
    },
  });
}
