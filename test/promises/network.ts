import { edit, held, heldByMany, mutation, type HeldPromise } from "./mutation.ts";

/** Somebody on the network in between. */
export const network: readonly HeldPromise[] = [
  heldByMany(
    "test/integration/bad-input-tls.test.ts",
    "a certificate of",
    "a certificate of another host",
    mutation(
      "accepts any certificate",
      edit(
        "src/upstream/link/link.ts",
        "rejectUnauthorized: !insecure",
        "rejectUnauthorized: false",
      ),
      edit("src/upstream/link/link.ts", "this.#insecure = tls.insecure;", "this.#insecure = true;"),
    ),
    mutation(
      "accepts a certificate of another host",
      edit(
        "src/upstream/link/link.ts",
        "serverName: host, ...tlsOptions(tls)",
        'serverName: "elsewhere.example", ...tlsOptions(tls)',
      ),
    ),
  ),
  held(
    "test/integration/sentinel-url.test.ts",
    "over TLS to both",
    mutation(
      "asks sentinels without TLS",
      edit(
        "src/upstream/link/sentinel.ts",
        '{ kind: this.#source.tls ? "tls" : "tcp", ...sentinel }',
        '{ kind: "tcp", ...sentinel }',
      ),
    ),
    mutation(
      "follows the primary that Sentinel names without TLS",
      edit(
        "src/upstream/link/sentinel.ts",
        'const kind = this.#source.tls ? "tls" : "tcp";',
        'const kind = "tcp";',
      ),
    ),
  ),
  held(
    "test/integration/sentinel-url.test.ts",
    "over TLS neither a sentinel nor a primary with a certificate of another authority hears anything",
    mutation(
      "accepts any certificate of a sentinel",
      edit("src/upstream/link/sentinel.ts", "      tls,\n", "      { ...tls, insecure: true },\n"),
    ),
    mutation(
      "accepts any certificate of the primary that Sentinel names",
      edit(
        "src/upstream/driver.ts",
        "new Link(target, this.#tls, {",
        "new Link(target, { ...this.#tls, insecure: true }, {",
      ),
    ),
  ),
  heldByMany(
    "test/faults/network.test.ts",
    "a link cut at every byte of the handshake",
    "a link cut at every byte of the handshake resumes at once: partial resync",
    mutation(
      "asks for the stream one byte too early after a break",
      edit("src/session/commands.ts", "resume.offset + 1", "resume.offset"),
    ),
  ),
  held(
    "test/faults/network.test.ts",
    "cuts at random bytes",
    mutation(
      "leaves out a byte of the stream after a break",
      edit("src/session/commands.ts", "resume.offset + 1", "resume.offset + 2"),
    ),
  ),
];
