import { edit, held, heldByMany, mutation, type HeldPromise } from "./mutation.ts";

/** A hostile primary, or somebody who impersonates it. */
export const hostilePrimary: readonly HeldPromise[] = [
  held(
    "test/session/handshake.test.ts",
    "an endless line after %s is given up",
    mutation(
      "takes lines of any length",
      edit(
        "src/session/session.ts",
        "new LineReader({ maxLineBytes: this.#options.maxLineBytes })",
        "new LineReader({ maxLineBytes: 2 ** 40 })",
      ),
    ),
  ),
  held(
    "test/resp/line-reader.test.ts",
    "refuses a line that is too long, also before its end, on every call",
    mutation(
      "looks at a line's length only once its end has come",
      edit(
        "src/resp/line-reader.ts",
        "this.#checkLength(piece);",
        "if (end !== -1) this.#checkLength(piece);",
      ),
    ),
  ),
  held(
    "test/session/handshake.test.ts",
    "a flood of keepalives is passed over, not taken one by one",
    mutation(
      "takes keepalives one by one",
      edit(
        "src/session/session.ts",
        "if (line.length === 0 && this.#mayMeetKeepalives) this.#lines.skipEmpty();",
      ),
    ),
  ),
  held(
    "test/upstream/driver.test.ts",
    "while the keeper is congested the link is not read; then it goes on",
    mutation(
      "reads on while the disk is behind",
      edit("src/upstream/link/gathering.ts", "if (pause) this.link.pause();", "if (pause) return;"),
    ),
  ),
  held(
    "test/faults/hostile-primary.test.ts",
    "invalid replies are refused with a reason",
    mutation(
      "takes a path for a replication id",
      edit("src/base/history.ts", "/^[0-9A-Za-z]{40}$/", "/^.{40}$/s"),
    ),
    mutation(
      "takes any number for the length of a snapshot",
      edit(
        "src/resp/bulk-reader.ts",
        "!/^\\d+$/.test(digits) || !Number.isSafeInteger(bytes)",
        "false",
      ),
    ),
    mutation(
      "ends for good where an offset is invalid",
      edit(
        "src/base/history.ts",
        "message: `a replication offset is",
        'retry: "never",\n      message: `a replication offset is',
      ),
    ),
  ),
  held(
    "test/session/handshake.test.ts",
    "bytes before the link is open never trip an invariant",
    mutation(
      "takes what a primary does for a bug of its own",
      edit(
        "src/session/session.ts",
        'throw new ReplicaError("PROTOCOL", { message: "bytes came before the link was open" });',
        'throw new Error("invariant broken: bytes came before the link was open");',
      ),
    ),
  ),
  heldByMany(
    "test/integration/bad-input-wire.test.ts",
    "follow goes on to the next attempt",
    "a wrong checksum follow goes on to the next attempt",
    mutation(
      "ends for good after a snapshot with a wrong checksum",
      edit(
        "src/rdb/checker.ts",
        "message: `the snapshot of ${counted",
        'retry: "never",\n        message: `the snapshot of ${counted',
      ),
    ),
  ),
  held(
    "test/rdb/checker.test.ts",
    "finds every single flipped bit after the header",
    mutation(
      "takes any checksum",
      edit("src/rdb/checker.ts", "if (stated !== crc64) {", "if (stated < 0n) {"),
    ),
  ),
  held(
    "test/store/generation/data-directory.test.ts",
    "whichever disk call fails, the old generation stays whole, and current unless the row is there",
    mutation(
      "makes a generation current although its log could not be synced",
      edit(
        "src/store/generation/promotion.ts",
        "await logs.sync(id);",
        "await logs.sync(id).catch(() => undefined);",
      ),
    ),
  ),
  held(
    "test/faults/power-cut.test.ts",
    "a generation is whole on the device from the moment that it is current",
    mutation(
      "never syncs the folder of the generations before one becomes current",
      edit("src/store/generation/promotion.ts", "await removal.sync();"),
    ),
    mutation(
      "leaves out the last data sync of a snapshot that is written past the page cache",
      edit(
        "src/store/disk/direct-writer.ts",
        "else this.#reservation.end(this.#position);\n    await this.sync();",
        "else this.#reservation.end(this.#position);",
      ),
    ),
    mutation(
      "leaves out the last data sync of a snapshot that is written through the page cache",
      edit(
        "src/store/disk/buffered-writer.ts",
        "await this.#fsyncs.run(() => this.#fsyncOnce(true));\n      await this.#sink.end();",
        "await this.#sink.end();",
      ),
    ),
    mutation(
      "does not sync a log before its generation becomes current",
      edit("src/store/generation/promotion.ts", "await logs.sync(id);"),
    ),
    mutation(
      "does not sync the manifest",
      edit(
        "src/store/disk/disk.ts",
        "await disk.write(fd, [bytes], 0);\n    await disk.syncData(fd);",
        "await disk.write(fd, [bytes], 0);",
      ),
    ),
    mutation(
      "does not sync the folder of a generation",
      edit(
        "src/store/disk/disk.ts",
        "disk.rename(temporary, path);\n  await disk.syncDir(dirname(path));",
        "disk.rename(temporary, path);",
      ),
      edit("src/store/generation/snapshot.ts", "await this.#disk.syncDir(dirname(finalPath));"),
    ),
  ),
  held(
    "test/session/handshake.test.ts",
    "nothing that a peer says is shown with its control characters",
    mutation(
      "shows what a peer says as it is",
      edit(
        "src/base/printable.ts",
        'return text.slice(0, maxCharacters).replace(/[^ -~]/g, "?");',
        "return text.slice(0, maxCharacters);",
      ),
    ),
  ),
  held(
    "test/cli/terminal/logging.test.ts",
    "one line, whatever a peer sends",
    mutation(
      "logs control characters",
      edit(
        "src/cli/terminal/logging.ts",
        "return text.replace(/\\p{Cc}/gu, (control) => JSON.stringify(control).slice(1, -1));",
        "return text;",
      ),
    ),
  ),
  held(
    "test/integration/bad-input-login.test.ts",
    "in a reply of the primary that repeats it",
    mutation(
      "shows what a primary repeats of a login",
      edit(
        "src/session/replies.ts",
        'const said = printableBytes(line).replace(/,? with args beginning with.*$/i, "");',
        "const said = printableBytes(line);",
      ),
      edit("src/session/session.ts", "errorWithoutSecret(error, this.#secret)", "error"),
    ),
    mutation(
      "shows a login that is repeated in words that it doesn't expect",
      edit("src/session/session.ts", "errorWithoutSecret(error, this.#secret)", "error"),
    ),
  ),
  held(
    "test/replica/replicaof-login.test.ts",
    "with sentinels, REPLICAOF to whom they name keeps the login, and to another doesn't",
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
    "test/cluster/follow/member-recorder.test.ts",
    "only the nodes of the last view are asked after a start",
    mutation(
      "asks all that were ever a node of the cluster, with the password",
      edit(
        "src/cluster/follow/member-recorder.ts",
        "one.lastMs === lastMs && one.host",
        "one.host",
      ),
    ),
  ),
  held(
    "test/store/generation/data-directory.test.ts",
    "keeps the newest thousand histories of a stream, however many a primary names",
    mutation(
      "keeps every history that a primary names",
      edit(
        "src/store/ledger/replication-ids.ts",
        "[generation, MAX_HISTORIES]",
        "[generation, 1e9]",
      ),
    ),
  ),
];
