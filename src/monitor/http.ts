import { isIP } from "../base/address.ts";
import { logger } from "../base/logger.ts";
import { jsonLine, printableAscii } from "../base/printable.ts";
import { listenFailure } from "../base/listen-failure.ts";
import type { ServedTls } from "../config/served-tls.ts";
import { ASSETS } from "./assets.ts";
import type { StatusDocument } from "./browser/document.ts";
import type { Metrics } from "./metrics.ts";
import { type Page, pageOf } from "./page.ts";

/** How long a connection may be idle; seconds. */
const IDLE_SECONDS = 10;
/** No request has a body. */
const MAX_BODY_BYTES = 1024;

/** No DNS name is longer. */
const MAX_NAME_CHARS = 253;

/** How many different questions are answered in one turn: each takes some milliseconds. */
const MAX_TEXTS = 16;

/** What the page loads: it loads nothing from elsewhere. */
const ASSET_ROUTES = Object.fromEntries(
  ASSETS.map(({ path, type, text }) => [
    path,
    () => new Response(text(), { headers: { "content-type": type, "cache-control": "no-store" } }),
  ]),
);

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  /** Names, beside localhost, `host` and IP addresses, by which it may be asked. */
  readonly names: readonly string[];
  /** Undefined: without TLS. */
  readonly tls?: ServedTls | undefined;
}

/** What is served over HTTP: the status of one replica, or of a cluster's shards. */
export interface HttpView {
  /** Undefined where it is ready. */
  whyNotReady(): string | undefined;
  /** The state in words, as the page has it before a script runs. */
  page(): Page;
  /** What `/status.json` tells; undefined for a shard that isn't there. */
  document(asked: DocumentAsked): StatusDocument | undefined;
  /** Begins to record what the page draws; returns a function that ends that. */
  record(): () => void;
}

/** What `/status.json` is asked for. */
export interface DocumentAsked {
  /** Only samples after this moment, in milliseconds since 1970. */
  readonly sinceMs: number;
  /** One shard of a cluster; undefined: all of it. */
  readonly shard: string | undefined;
}

/**
 * Serves `/metrics`, `/healthz` (the process is alive), `/readyz` (the replica is connected to a primary that
 * has data to pass on, and what it received is durable), `/status.json` and a page that draws it.
 * @throws ReplicaError PORT_IN_USE, LISTEN_FAILED; USAGE for a certificate that can't be used.
 */
export function serveHttp(
  options: HttpOptions,
  metrics: Metrics,
  view: HttpView,
): { readonly port: number; stop(closesConnections?: boolean): void } {
  const routes: Record<string, (query: URLSearchParams) => Response | Promise<Response>> = {
    "/metrics": async () =>
      new Response(await metrics.text(), { headers: { "content-type": metrics.contentType } }),
    "/healthz": () => new Response("ok\n"),
    "/readyz": () => {
      const why = view.whyNotReady();
      return why === undefined
        ? new Response("ready\n")
        : new Response(`not ready: ${why}\n`, { status: 503 });
    },
    "/": () => pageOf(view.page()),
    "/status.json": statusJson(view),
    ...ASSET_ROUTES,
  };
  let hasWarned = false;
  const answer = (request: Request): Response | Promise<Response> => {
    // The Host header is part of this URL, and may be anything.
    const url = URL.parse(request.url);
    if (url === null) return new Response("bad request: no valid URL\n", { status: 400 });
    const stranger = strangeHost(request, options);
    if (stranger !== undefined) {
      if (!hasWarned)
        logger.warn(`refused an HTTP request for another host: ${adviceFor(stranger)}`);
      hasWarned = true;
      return new Response(`misdirected: ${adviceFor(stranger)}\n`, { status: 421 });
    }
    const route = routes[url.pathname];
    if (route === undefined) return new Response("not found\n", { status: 404 });
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("method not allowed: use GET or HEAD\n", {
        status: 405,
        headers: { allow: "GET, HEAD" },
      });
    }
    return route(url.searchParams);
  };
  const tls = options.tls && { tls: options.tls.options };
  try {
    const server = Bun.serve({
      hostname: options.host,
      port: options.port,
      ...tls,
      idleTimeout: IDLE_SECONDS,
      maxRequestBodySize: MAX_BODY_BYTES,
      fetch: async (request) => thenClose(await answer(request)),
      error: () => thenClose(new Response("internal error\n", { status: 500 })),
    });
    return { port: server.port ?? options.port, stop: (closes = true) => void server.stop(closes) };
  } catch (cause) {
    const wanted = { what: "serve HTTP", addressFlag: "--http", portFlag: "--http" } as const;
    throw listenFailure(options, wanted, cause);
  }
}

/**
 * Answers `/status.json`. Requests of one turn of the event loop that ask for the same share one text, as those for metrics
 * do.
 */
function statusJson(view: HttpView): (query: URLSearchParams) => Response {
  const texts = new Map<string, string | undefined>();
  return (query) => {
    const since = Number(query.get("since") ?? 0);
    const sinceMs = Number.isSafeInteger(since) ? since : 0;
    const asked = { sinceMs, shard: query.get("shard")?.slice(0, MAX_NAME_CHARS) };
    const key = JSON.stringify(asked);
    if (texts.size === 0) setImmediate(() => texts.clear());
    if (!texts.has(key)) {
      if (texts.size >= MAX_TEXTS) return new Response("busy: ask again\n", { status: 503 });
      const document = view.document(asked);
      texts.set(key, document && `${jsonLine(document)}\n`);
    }
    const text = texts.get(key);
    if (text === undefined) return new Response("no such shard\n", { status: 404 });
    return new Response(text, {
      headers: { "content-type": "application/json", "cache-control": "no-store" },
    });
  };
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
