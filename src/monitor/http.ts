import { formatAge, formatBytes } from "../base/quantity.ts";
import { isIP } from "../base/address.ts";
import { logger } from "../base/logger.ts";
import { printableAscii } from "../base/printable.ts";
import { listenFailure } from "../base/listen-failure.ts";
import type { Metrics } from "./metrics.ts";
import type { ReplicaStatus } from "../replica/status.ts";

/** How long a connection may be idle; seconds. */
const IDLE_SECONDS = 10;
/** No request has a body. */
const MAX_BODY_BYTES = 1024;

/** No DNS name is longer. */
const MAX_NAME_CHARS = 253;

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  /** How long a received byte may stay unsynced before `/readyz` fails; milliseconds. */
  readonly readyLagMs: number;
  /** Names, beside localhost, `host` and IP addresses, by which it may be asked. */
  readonly names: readonly string[];
}

/**
 * Serves `/metrics`, `/healthz` (the process is alive), `/readyz` (the replica is connected to a primary that
 * has data to pass on, and what it received is durable) and a status page.
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
    "/": () => page(status, options.readyLagMs),
  };
  let hasWarned = false;
  const answer = (request: Request): Response | Promise<Response> => {
    // The Host header is part of this URL, and may be anything.
    const path = URL.parse(request.url)?.pathname;
    if (path === undefined) return new Response("bad request: no valid URL\n", { status: 400 });
    const stranger = strangeHost(request, options);
    if (stranger !== undefined) {
      if (!hasWarned)
        logger.warn(`refused an HTTP request for another host: ${adviceFor(stranger)}`);
      hasWarned = true;
      return new Response(`misdirected: ${adviceFor(stranger)}\n`, { status: 421 });
    }
    const route = routes[path];
    if (route === undefined) return new Response("not found\n", { status: 404 });
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("method not allowed: use GET or HEAD\n", {
        status: 405,
        headers: { allow: "GET, HEAD" },
      });
    }
    return route();
  };
  try {
    const server = Bun.serve({
      hostname: options.host,
      port: options.port,
      idleTimeout: IDLE_SECONDS,
      maxRequestBodySize: MAX_BODY_BYTES,
      fetch: async (request) => thenClose(await answer(request)),
      error: () => thenClose(new Response("internal error\n", { status: 500 })),
    });
    return { port: server.port ?? options.port, stop: () => void server.stop(true) };
  } catch (cause) {
    const wanted = { what: "serve HTTP", addressFlag: "--http", portFlag: "--http" } as const;
    throw listenFailure(options, wanted, cause);
  }
}

/**
 * The host that a request is for, where that isn't this one. Somebody may let a name of theirs lead here (DNS rebinding):
 * to a browser, a page of theirs then comes from here, and may read what is answered. They can't do that with an address,
 * which a browser takes as it is.
 */
function strangeHost(
  request: Request,
  { host, names }: Pick<HttpOptions, "host" | "names">,
): string | undefined {
  const header = request.headers.get("host") ?? "";
  const asked = header.replace(/:\d*$/, "").replace(/\.$/, "").toLowerCase();
  if (isIP(asked.replace(/^\[(.*)\]$/, "$1")) !== 0) return undefined;
  const known = ["localhost", host, ...names].map((name) => name.toLowerCase());
  return known.includes(asked) ? undefined : printableAscii(asked, MAX_NAME_CHARS);
}

function adviceFor(stranger: string): string {
  return `give --http-host if "${stranger}" is a name of this replica`;
}

/**
 * Closes the connection after this response. The requests of a pipeline would all be answered in one turn of the
 * event loop; with some hundred connections, everything else would wait for a minute.
 */
function thenClose(response: Response): Response {
  response.headers.set("connection", "close");
  // A reason may quote a primary: no browser is to take it for a page.
  response.headers.set("x-content-type-options", "nosniff");
  return response;
}

/** The newest moment that can be restored, and how long ago that is. */
function restorableText(status: ReplicaStatus): string {
  const { newestRestorableMs, staleSeconds, staleFor } = status;
  if (newestRestorableMs === undefined || staleSeconds === undefined) return "nothing yet";
  const moment = new Date(newestRestorableMs).toISOString();
  return staleFor === undefined
    ? `${moment}, ${formatAge(staleSeconds)} ago`
    : `${moment}: ${staleFor}`;
}

/** What is archived, where something is. */
function archiveRows({ archive }: ReplicaStatus): [string, string][] {
  if (archive === undefined) return [];
  const { url, text, archivedOffset, lag, lastSuccessMs } = archive;
  const last =
    lastSuccessMs === undefined ? "" : `, sent last ${new Date(lastSuccessMs).toISOString()}`;
  const behind =
    lag === undefined ? "" : `, ${formatBytes(lag.lagBytes + lag.lagBaseBytes)} behind`;
  const reached = archivedOffset === undefined ? "no snapshot yet" : `offset ${archivedOffset}`;
  return [
    ["archive", `${url}: ${text}`],
    ["archived", `${reached}${behind}${last}`],
  ];
}

/** How large it is, and that it is small beside what was there before. */
function snapshotText({ currentGeneration, shrunken }: ReplicaStatus): string {
  const size = formatBytes(currentGeneration?.rdbBytes ?? 0);
  if (shrunken === undefined) return size;
  return `${size}: less than half of generation ${shrunken.guarded} (${shrunken.had}), which is kept`;
}

function page(status: ReplicaStatus, readyLagMs: number): Response {
  const { link, syncs, relay, cursors } = status;
  const generation = status.currentGeneration;
  const notReady = status.whyNotReady(readyLagMs);
  const rows: [string, string][] = [
    ["primary", status.isFollowing ? status.primary.name : "none"],
    ["state", link.state],
    ["ready", notReady === undefined ? "yes" : `no: ${notReady}`],
    ["offset received", String(cursors.received)],
    ["offset durable", String(cursors.durable)],
    ["generation", String(generation?.id ?? "none")],
    ["snapshot", snapshotText(status)],
    ["log", formatBytes(cursors.logBytes)],
    ["restorable up to", restorableText(status)],
    ...archiveRows(status),
    ["downstreams", `${relay.downstreams.length} attached, ${relay.countByState.online} online`],
    ["syncs", `${syncs.full} full, ${syncs.partial} partial`],
    ["other history", status.otherHistory?.text ?? "none"],
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
