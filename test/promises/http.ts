import { edit, held, mutation, type HeldPromise } from "./mutation.ts";

/** HTTP. */
export const http: readonly HeldPromise[] = [
  held(
    "test/monitor/http.test.ts",
    "serves a status page that takes nothing that a peer says for HTML, and allows no outside content",
    mutation(
      "shows what a primary says as markup",
      edit("src/monitor/page.ts", "${Bun.escapeHTML(value)}", "${value}"),
    ),
    mutation(
      "lets a page load what is not its own",
      edit("src/monitor/page.ts", "default-src 'none'", "img-src 'self'"),
    ),
  ),
  held(
    "test/monitor/http.test.ts",
    "answers one request of a connection, however many it sends",
    mutation(
      "answers all requests of a connection",
      edit("src/monitor/http.ts", 'response.headers.set("connection", "close");'),
    ),
  ),
  held(
    "test/monitor/http.test.ts",
    "scrapes that come together share one reading, and the next one is read anew",
    mutation(
      "reads all metrics for each request",
      edit("src/monitor/metrics.ts", "if (this.#text !== undefined) return this.#text;"),
    ),
    mutation(
      "never reads the metrics again",
      edit("src/monitor/metrics.ts", "setImmediate(() => (this.#text = undefined));"),
    ),
  ),
  held(
    "test/monitor/http.test.ts",
    "refuses malformed requests",
    mutation(
      "answers a request with an invalid Host",
      edit(
        "src/monitor/http.ts",
        "const url = URL.parse(request.url);",
        'const url = URL.parse(request.url) ?? new URL("http://localhost/");',
      ),
    ),
  ),
  held(
    "test/monitor/http.test.ts",
    "serves a thousand connections, and closes those that never finish a request",
    mutation(
      "waits for a request without end",
      edit("src/monitor/http.ts", "idleTimeout: IDLE_SECONDS", "idleTimeout: 255"),
      edit("src/monitor/http.ts", 'response.headers.set("connection", "close");'),
    ),
  ),
  held(
    "test/monitor/http.test.ts",
    "answers no request for another host: a name may lead here for the sake of a page from elsewhere",
    mutation(
      "answers whatever host is asked for",
      edit("src/monitor/http.ts", "known.includes(asked) ? undefined :", "true ? undefined :"),
    ),
  ),
  held(
    "test/monitor/http-tls.test.ts",
    "takes TLS 1.2 and 1.3, and nothing older, and no plain HTTP",
    mutation(
      "speaks plain HTTP where it has a certificate",
      edit("src/monitor/http.ts", "      ...tls,\n"),
    ),
  ),
  held(
    "test/monitor/http-tls.test.ts",
    "with --http-tls-ca, a client without a valid certificate gets no answer",
    mutation(
      "asks no client for a certificate",
      edit(
        "src/config/served-tls.ts",
        "{ requestCert: ca !== undefined, rejectUnauthorized: ca !== undefined }",
        "{ requestCert: false, rejectUnauthorized: false }",
      ),
    ),
  ),
];
