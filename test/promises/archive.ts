import { edit, held, mutation, type HeldPromise } from "./mutation.ts";

/** An archive. */
export const archive: readonly HeldPromise[] = [
  held(
    "test/integration/archive-status.test.ts",
    "one that forbids is told of with the reason, once in the events, and never with a key",
    mutation(
      "shows the keys that a store repeats",
      edit(
        "src/archive/store/s3-refusal.ts",
        "[secretAccessKey, sessionToken, accessKeyId].reduce<string>(withoutSecret, text)",
        "text",
      ),
    ),
    mutation(
      "notes each try in the events",
      edit(
        "src/archive/writer/outage.ts",
        "} else logger.debug(`${this.#url}: ${error.message}`);",
        "} else this.#tell(`${this.#url}: ${error.message}`);",
      ),
    ),
  ),
  held(
    "test/archive/writer/archiver.test.ts",
    "an encrypted archive shows nothing of what it holds",
    mutation(
      "stores everything as it is",
      edit(
        "src/archive/format/objects.ts",
        "body: encryption === undefined ? used",
        "body: encryption === undefined || used.length > 0 ? used",
      ),
    ),
  ),
  held(
    "test/archive/writer/trouble.test.ts",
    "other bytes under a name of its own stop that generation loudly, and no other",
    mutation(
      "takes whatever is there for its own",
      edit(
        "src/archive/store/file-store.ts",
        "if (opened.bytes !== body.length) throw conflict(path);",
        "if (opened.bytes !== body.length) return;",
      ),
    ),
  ),
  held(
    "test/integration/archive-policy.test.ts",
    "the policies of OPERATIONS.md allow what archiving and restoring ask for, and nothing else",
    mutation(
      "deletes after each object",
      edit(
        "src/archive/writer/archiver.ts",
        "    await store.put(key, body, signal, sha256);\n    this.#pending = undefined;",
        "    await store.put(key, body, signal, sha256);\n    await store.delete(`${key}.tmp`, signal);\n    this.#pending = undefined;",
      ),
    ),
  ),
];
