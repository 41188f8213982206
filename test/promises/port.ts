import {
  edit,
  held,
  heldByMany,
  mutation,
  mutationMetAtTimes,
  type HeldPromise,
} from "./mutation.ts";

/** A client of the replica's port. */
export const port: readonly HeldPromise[] = [
  held(
    "test/config/settings.test.ts",
    "binding %s needs a password or --unprotected",
    mutation(
      "opens the port to everybody",
      edit(
        "src/config/load-settings.ts",
        "if (isLoopback(values.bind) || values",
        "if (values.bind !== undefined || values",
      ),
    ),
  ),
  held(
    "test/port/commands.test.ts",
    "refuses everything but a login before login",
    mutation(
      "takes commands before a login",
      edit(
        "src/port/dispatch.ts",
        "if (!client.login.isLoggedIn && command?.early !== true)",
        "if (!client.login.isLoggedIn && command === undefined)",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "before its login a client may send no more than a login",
    mutation(
      "takes large commands before a login",
      edit(
        "src/port/clients/logins.ts",
        "return this.#isLoggedIn ? limits.command : limits.loginCommand;",
        "return limits.command;",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "a client that sends too much without a login is disconnected, at no cost to others",
    mutation(
      "takes any number of bytes before a login",
      edit(
        "src/port/clients/logins.ts",
        "return bytes > limits.loginInputBytes || this",
        "return this",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "answers ten wrong passwords at once: one by one, in a pipeline, in a transaction",
    mutation(
      "lets guess without end",
      edit("src/port/clients/logins.ts", "return seen.count >= MAX_FAILURES;", "return false;"),
    ),
    mutation(
      "refuses the right password after wrong ones",
      edit(
        "src/port/connection-commands.ts",
        'if (!isRight || user !== "default") return',
        'if (!isRight || user !== "default" || context.logins.isSuspect(hostOf(client), context.now())) return',
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "a silent client, or one that never completes a command, is disconnected in time",
    mutation(
      "gives a client new time with each command before its login",
      edit(
        "src/port/port.ts",
        'wait !== client.waitsFor || (client.hasAsked && wait !== "login")',
        "wait !== client.waitsFor || client.hasAsked",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "serves the first thousand clients, tells the others, and releases all descriptors",
    mutation(
      "takes any number of clients",
      edit(
        "src/port/port.ts",
        "if (this.#clients.size >= this.#places && !this.#makeRoom()) return",
        "if (this.#clients.size < 0) return",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "with few descriptors there are fewer places, and the replica still opens what it needs",
    mutation(
      "lets clients take all descriptors",
      edit(
        "src/port/port.ts",
        "Math.max(1, descriptorLimit() - limits.ownDescriptors)",
        "Infinity",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "those that are silent before a login keep out nobody who logs in",
    mutation(
      "lets the silent keep their places",
      edit("src/port/port.ts", "(one) => !one.login.isLoggedIn && !one.blocked", "() => false"),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "a large pipeline waits its turn like any other client",
    mutationMetAtTimes(
      "answers all that came in one go",
      edit("src/config/limits.ts", "  turnMs: 1,", "  turnMs: 60_000,"),
      edit("src/config/limits.ts", "  roundMs: 2,", "  roundMs: 60_000,"),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "a subscriber that doesn't read is disconnected, at no cost to others",
    mutation(
      "holds without a limit what a client does not read",
      edit(
        "src/port/port.ts",
        "if (client.unsentBytes > limits.clientUnsentBytes) this",
        "if (client.unsentBytes > 64 * limits.clientUnsentBytes) this",
      ),
      edit(
        "src/port/clients/rounds.ts",
        "while (this.#total > limits.clientsBytes) this.#evict();",
      ),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "an HTTP request with commands in its body is cut off at its first line",
    mutation(
      "answers the first line of a request",
      edit("src/port/dispatch.ts", " || isRequestLine(args)) {", ") {"),
    ),
    mutation(
      "passes over the lines of a request",
      edit(
        "src/port/dispatch.ts",
        'if (verb === "post" || verb === "host:" || isRequestLine(args)) {',
        'if (verb === "post:") {',
      ),
    ),
  ),
  held(
    "test/downstream/downstream.test.ts",
    "an ACK counts for at most what was sent, and never goes back",
    mutation(
      "believes any ACK",
      edit("src/downstream/downstream.ts", "Math.min(offset, this.#sentOffset)", "offset"),
    ),
    mutation(
      "lets an ACK go back",
      edit("src/downstream/downstream.ts", " || offset <= this.#ackedOffset) return", ") return"),
    ),
  ),
  held(
    "test/downstream/downstream.test.ts",
    "disconnects a replica that takes no byte of its snapshot, and closes the file",
    mutation(
      "keeps a replica that takes no byte",
      edit(
        "src/downstream/downstream.ts",
        "stalledMs > STALLED_TIMEOUTS * timeoutMs",
        "stalledMs === Infinity",
      ),
    ),
  ),
  held(
    "test/downstream/downstream.test.ts",
    "a replica that doesn't read holds up nobody, and its ACKs are read",
    mutation(
      "reads no ACK of a replica that does not read",
      edit(
        "src/port/port.ts",
        "if (client.stalled && !isFed(client)) return;",
        "if (client.stalled) return;",
      ),
    ),
  ),
  held(
    "test/store/disk/shared-blocks.test.ts",
    "what is cached is handed on in rounds, between which the event loop does all else",
    mutation(
      "hands on all that is cached in one go",
      edit(
        "src/store/disk/shared-blocks.ts",
        "while (performance.now() >= this.#thisRound().endMs) await this.#thisRound().over;",
      ),
    ),
  ),
  held(
    "test/downstream/told.test.ts",
    "however many replicas attach, the log gets so many lines a minute, and how many were left out",
    mutation(
      "logs every replica that comes or goes",
      edit("src/downstream/told.ts", "if (this.#lines++ < TOLD_LINES) ", "this.#lines++;\n    "),
    ),
    mutation(
      "leaves lines out without a word",
      edit("src/downstream/told.ts", "if (leftOut > 0) ", "if (leftOut < 0) "),
    ),
  ),
  heldByMany(
    "test/integration/relay.test.ts",
    "gets the snapshot and the stream at no cost to the primary",
    "redis-7.0 gets the snapshot and the stream at no cost to the primary",
    mutation(
      "asks the primary for a snapshot for each replica",
      edit(
        "src/port/replication-commands.ts",
        "client.downstream = downstream;",
        'client.downstream = downstream;\n    context.replica.renewal.begin("a replica");',
      ),
    ),
  ),
  held(
    "test/upstream/demand.test.ts",
    "one is taken for all that wait, and the next one after a pause",
    mutation(
      "makes the primary fork again without a pause",
      edit("src/upstream/demand.ts", "clock.monotonicMs() + limits.snapshotHurryMs", "0"),
    ),
  ),
  held(
    "test/integration/port-abuse.test.ts",
    "a TLS client that was made to carry commands is cut off at its first byte",
    mutation(
      "takes a TLS handshake for commands",
      edit("src/resp/command-reader.ts", "this.#buffer[this.#start] === TLS_HANDSHAKE", "false"),
      edit("src/resp/command-reader.ts", "line.includes(NUL)", "false"),
    ),
  ),
  held(
    "test/port/changes.test.ts",
    "where the primary has a password and the port has none, a client may look and change nothing",
    mutation(
      "lets anybody turn the replica against its primary",
      edit("src/port/dispatch.ts", "return error(`DENIED ${MAY_ONLY_LOOK}`);", "return undefined;"),
    ),
  ),
  held(
    "test/port/changes.test.ts",
    "%s to be another process: one that is above would end the link to the primary",
    mutation(
      "takes anybody who says so for the primary, fed from here",
      edit(
        "src/port/replication-commands.ts",
        'const runId = context.mayChange ? client.announced.runId : "";',
        "const { runId } = client.announced;",
      ),
    ),
  ),
  held(
    "test/port/changes.test.ts",
    "who may only look makes no fork by saying that it is a replica",
    mutation(
      "lets anybody make the primary fork",
      edit("src/port/replication-commands.ts", "if (context.mayChange) return", "return"),
    ),
  ),
  held(
    "test/port/clients/logins.test.ts",
    "answers a hundred waiting logins a second, however many there are",
    mutation(
      "answers all that wait at once",
      edit(
        "src/port/clients/logins.ts",
        "return WAIT_MS * Math.max(1, (this.#waiting + 1) / MAX_WAITING);",
        "return WAIT_MS;",
      ),
    ),
  ),
  held(
    "test/port/clients/logins.test.ts",
    "a login that waits ends once, also where the port cuts its connection off",
    mutation(
      "counts fewer logins than wait",
      edit(
        "src/port/port.ts",
        "if (client === undefined || !this.#clients.delete(client)) return;",
        "if (client === undefined) return;",
      ),
    ),
  ),
  held(
    "test/port/clients/logins.test.ts",
    "after a hundred from anywhere, logins from everywhere wait, but from where the right password came",
    mutation(
      "lets many addresses guess together",
      edit("src/port/clients/logins.ts", "isFlooded && !this.#known.has(networkOf(host))", "false"),
    ),
    mutation(
      "holds up those who know the password",
      edit(
        "src/port/clients/logins.ts",
        "isFlooded && !this.#known.has(networkOf(host))",
        "isFlooded",
      ),
    ),
  ),
  held(
    "test/replica/replicaof-login.test.ts",
    "CONFIG SET masterauth after REPLICAOF is for that one alone; the user of the start goes with it",
    mutation(
      "sends what was set for one stranger to the next one",
      edit(
        "src/upstream/link/primary-login.ts",
        "if (stranger !== this.#stranger) this.#setForStranger = new Map();",
      ),
    ),
  ),
  held(
    "test/replica/replicaof-login.test.ts",
    "REPLICAOF doesn't hand out the password from %s",
    mutation(
      "sends the login to whom only REPLICAOF names",
      edit(
        "src/upstream/link/locator.ts",
        "username: undefined, password: undefined, isStranger: true };",
        "username: undefined, password: undefined };",
      ),
    ),
  ),
  held(
    "test/upstream/link/primary-login.test.ts",
    "a stranger gets nothing of what was given at the start or set for others, and nothing is read for it",
    mutation(
      "gives a stranger the password of the start",
      edit("src/upstream/link/primary-login.ts", "if (isStranger) return undefined;"),
    ),
  ),
  held(
    "test/downstream/downstream.test.ts",
    "is tried once in a turn of the event loop, however much is acknowledged in it",
    mutation(
      "tries all that wait at each acknowledgement",
      edit(
        "src/downstream/relay.ts",
        "setImmediate(() => this.#checkWaiting());",
        "this.#checkWaiting();",
      ),
    ),
    mutation(
      "tries none that waits after the first time",
      edit("src/downstream/relay.ts", "this.#isToCheck = false;"),
    ),
  ),
  held(
    "test/port/clients/client.test.ts",
    "what a client holds counts with what words and subscriptions take beside their bytes",
    mutation(
      "counts the bytes of an unfinished command alone",
      edit(
        "src/port/clients/client.ts",
        "this.reader.heldBytes + begunWords +",
        "this.reader.heldBytes +",
      ),
    ),
  ),
  held(
    "test/base/glob.test.ts",
    "that are hostile, without delay",
    mutation(
      "tries a pattern again from each place of the text",
      edit(
        "src/base/glob.ts",
        "if (!this.#goOn(text.charCodeAt(at))) return false;",
        "{\n      if (at < 20) new Glob(this.#pattern).matches(text.slice(at + 1));\n      if (!this.#goOn(text.charCodeAt(at))) return false;\n    }",
      ),
    ),
  ),
  held(
    "test/integration/port-crowd.test.ts",
    "the primary is acknowledged before hundreds of clients that list each other",
    mutationMetAtTimes(
      "serves all that wait, and all that they ask, before anything else",
      edit("src/config/limits.ts", "  turnMs: 1,", "  turnMs: 60_000,"),
      edit("src/config/limits.ts", "  roundMs: 2,", "  roundMs: 60_000,"),
      edit(
        "src/port/clients/rounds.ts",
        "    this.#isDue = true;\n    setImmediate(() => this.#run());",
        "    this.#isDue = true;\n    this.#run();",
      ),
    ),
  ),
  held(
    "test/integration/port-crowd.test.ts",
    "all clients together hold no more than 64 MiB, and leave none of it behind",
    mutation(
      "holds whatever all clients make it hold",
      edit(
        "src/port/clients/rounds.ts",
        "while (this.#total > limits.clientsBytes) this.#evict();",
      ),
    ),
  ),
  held(
    "test/port/port.test.ts",
    "slow commands, in a pipeline or in a transaction, hold up nobody",
    mutation(
      "gives a client as many slow commands as quick ones",
      edit("src/port/port.ts", "nowMs > roundEndMs || (took", "(took"),
    ),
  ),
  held(
    "test/port/clients/rounds.test.ts",
    "a crowd whose turns take long holds up no one with a short turn, and is served meanwhile",
    mutation(
      "lets short turns wait for long ones",
      edit(
        "src/port/clients/rounds.ts",
        "(this.#wasSlow.has(one) ? this.#slow : this.#quick).add(one);",
        "this.#quick.add(one);",
      ),
    ),
  ),
  held(
    "test/port/port.test.ts",
    "limits the subscriptions and the transaction of one client",
    mutation(
      "takes any number of subscriptions",
      edit("src/port/clients/pubsub.ts", "client.subscriptions >= clientSubscriptions", "false"),
    ),
    mutation(
      "takes any number of bytes into a transaction",
      edit("src/port/dispatch.ts", "transaction.bytes > limits.clientHeldBytes", "false"),
    ),
  ),
  held(
    "test/port/port.test.ts",
    "limits patterns: their length, and how many one client and all together have",
    mutation(
      "takes patterns of any length",
      edit("src/port/clients/pubsub.ts", "name.length > patternBytes", "false"),
    ),
    mutation(
      "takes any number of patterns of one client",
      edit("src/port/clients/pubsub.ts", "client.patterns.size >= clientPatterns", "false"),
    ),
    mutation(
      "takes any number of patterns of all clients",
      edit("src/port/clients/pubsub.ts", "this.#patterns < patterns", "true"),
    ),
  ),
  held(
    "test/downstream/downstream.test.ts",
    "a replica that takes nothing of its snapshot pins no generation after --timeout",
    mutation(
      "keeps a file for whoever has begun to read it",
      edit("src/downstream/downstream.ts", "this.#keepPace(nowMs, timeoutMs);"),
    ),
  ),
  held(
    "test/downstream/downstream.test.ts",
    "a replica by %s that takes nothing of the stream, for all %s, pins no generation",
    mutation(
      "takes what a replica says for progress",
      edit(
        "src/downstream/downstream.ts",
        "nowMs - this.#pace.atMs <= timeoutMs",
        "silentMs <= timeoutMs",
      ),
      edit(
        "src/downstream/downstream.ts",
        "#keepPace(nowMs: number, timeoutMs: number): void {",
        "#keepPace(nowMs: number, timeoutMs: number): void {\n    const silentMs = nowMs - this.#heardMs;",
      ),
    ),
  ),
  held(
    "test/port/served-tls.test.ts",
    "takes TLS 1.2 and 1.3, and nothing older",
    mutation(
      "disconnects who speaks TLS",
      edit("src/port/clients/handshakes.ts", "if (success && (!this", "if (!success && (!this"),
    ),
  ),
  held(
    "test/port/served-tls.test.ts",
    "a client without TLS hears an alert and is disconnected; one line a minute says so",
    mutation(
      "logs each client",
      edit(
        "src/port/clients/alarms.ts",
        "if (nowMs - (this.#loggedAtMs.get(warning) ?? 0) < ALARM_EVERY_MS) return;",
      ),
    ),
  ),
  heldByMany(
    "test/port/served-tls.test.ts",
    "a client with %s gets no answer",
    "a client with no certificate gets no answer",
    mutation(
      "asks no client for a certificate",
      edit(
        "src/config/served-tls.ts",
        "{ requestCert: ca !== undefined, rejectUnauthorized: ca !== undefined }",
        "{ requestCert: false, rejectUnauthorized: false }",
      ),
      edit("src/port/clients/handshakes.ts", "(!this.#asksClients || failure === null)", "true"),
    ),
  ),
  held(
    "test/port/served-tls.test.ts",
    "handshakes that are not finished take no client's place, and the oldest make room",
    mutation(
      "lets any number begin",
      edit(
        "src/port/clients/handshakes.ts",
        "this.#pending.size < limits.handshakes ? [] : this.#pending.keys()",
        "[] as Socket<unknown>[]",
      ),
    ),
  ),
  held(
    "test/port/clients/handshakes.test.ts",
    "a handshake has limited time, which its bytes don't extend",
    mutation(
      "waits for ever",
      edit("src/port/clients/handshakes.ts", "socket.timeout(limits.loginSeconds);"),
    ),
  ),
  held(
    "test/port/served-tls.test.ts",
    "with a bad file keeps the old certificate, and says what to do",
    mutation(
      "takes a key of another certificate",
      edit("src/config/served-tls.ts", "!certificate.checkPrivateKey(privateKey)", "false"),
    ),
  ),
  held(
    "test/port/served-tls.test.ts",
    "a key that everybody can read is warned of, an expired certificate too, and no key is logged",
    mutation(
      "doesn't look at the key's mode",
      edit("src/config/served-tls.ts", "(mode & 0o004) !== 0", "false"),
    ),
  ),
  held(
    "test/integration/served-tls.test.ts",
    "status, HTTPS and their renewal: each works, or says what to do",
    mutation(
      "sends the password to anybody",
      edit(
        "src/cli/status/info-connection.ts",
        "const refused = tls.verify(this.#at, socket, success, failure);",
        "const refused = undefined;",
      ),
    ),
  ),
];
