import { edit, held, mutation, type HeldPromise } from "./mutation.ts";

const showsPasswords = mutation(
  "shows the password of a URL",
  edit(
    "src/config/primary-url.ts",
    "`${encodeURIComponent(target.username)}@`;",
    "`${encodeURIComponent(target.username)}:${target.password}@`;",
  ),
);

/** A local user. */
export const localUser: readonly HeldPromise[] = [
  held(
    "test/cli/main.test.ts",
    "leaves the process list and the logs, and is used",
    mutation(
      "leaves the password in the process list",
      edit("src/cli/process.ts", "hidePasswords(argv,", "hidePasswords([],"),
    ),
    showsPasswords,
  ),
  held(
    "test/integration/port-logs.test.ts",
    "logs each change with the client that made it, and no password: %s",
    mutation(
      "writes the password into the database",
      edit(
        "src/upstream/resyncs.ts",
        'what.replace(/^full resync /, "")',
        "`${what} ${this.#target?.password}`",
      ),
    ),
    mutation(
      "tells its own password",
      edit(
        "src/port/config-commands.ts",
        '["masteruser", username ?? ""],',
        '["masteruser", username ?? ""],\n    ["requirepass", settings.requirepass?.read() ?? ""],',
      ),
    ),
  ),
  held(
    "test/integration/sentinel-url.test.ts",
    "shows no password: neither the primary's, which leaves the process list, nor the sentinels'",
    mutation(
      "leaves the password of a sentinels' URL in the process list",
      edit(
        "src/config/primary-url.ts",
        "/^(?:rediss?(?:\\+(?:sentinel|cluster))?|unix):/i",
        "/^(?:rediss?|unix):/i",
      ),
    ),
    mutation(
      "shows the password for the sentinels",
      edit(
        "src/upstream/link/sentinel.ts",
        "const answer = new Answer(this.#source, password !== undefined);",
        "const answer = new Answer(this.#source, password !== undefined);\n    logger.debug(`asking with the password ${password}`);",
      ),
    ),
  ),
  held(
    "test/integration/restore-into.test.ts",
    "the password is in no error and no log, and leaves the process list",
    mutation(
      "leaves the password in the process list where it stands behind a flag",
      edit(
        "src/cli/hide-password.ts",
        "const bare = bareUrl(value);",
        'const bare = flag === "" ? bareUrl(value) : undefined;',
      ),
    ),
    mutation(
      "sends the primary's password to another server",
      edit(
        "src/inspect/deliver/target-login.ts",
        "if (file === undefined) return undefined;",
        'const sent = process.env["REPLICA_PASSWORD"];\n      if (file === undefined) return sent ? { username, password: sent, from: inUrl } : undefined;',
      ),
    ),
  ),
  held(
    "test/integration/restore-into.test.ts",
    "is refused unless it is named once more, and then brings back what was deleted, to the byte",
    mutation(
      "writes into the primary that is followed without a question",
      edit(
        "src/cli/delivery/followed-primary.ts",
        "if (!isFollowed(target, followed)) return;",
        "if (isFollowed(target, followed)) return;",
      ),
    ),
  ),
  held(
    "test/inspect/deliver/refused-targets.test.ts",
    "says which right a user lacks, and needs no more than these",
    mutation(
      "writes by another command than RESTORE",
      edit(
        "src/inspect/deliver/deliver.ts",
        'pipeline.add(["EXISTS", entry.key])',
        'pipeline.add(["PERSIST", entry.key])',
      ),
    ),
  ),
  held(
    "test/config/password.test.ts",
    "reads a password's file anew each time",
    mutation(
      "keeps the password of the start",
      edit(
        "src/config/password.ts",
        "if (canBeReadOnce) return",
        'if (canBeReadOnce || atStart !== "") return',
      ),
    ),
  ),
  held(
    "test/config/password.test.ts",
    "refuses a file that is gone, empty or no text, without what it held before, until it is well again",
    mutation(
      "uses the password of the start while the file can't be read",
      edit(
        "src/config/password.ts",
        "const why = cause instanceof Error",
        'if (atStart !== "") return atStart;\n        const why = cause instanceof Error',
      ),
    ),
  ),
  held(
    "test/integration/rotated-password.test.ts",
    "the port's own password is read anew at each login; who is logged in stays so",
    mutation(
      "keeps its own password of the start",
      edit(
        "src/port/port.ts",
        "requirepass && new OwnPassword(requirepass)",
        'requirepass && new OwnPassword(((once) => ({ from: "", read: () => once }))(requirepass.read()))',
      ),
    ),
  ),
  held(
    "test/deploy/systemd.test.ts",
    "drops every privilege that the program doesn't need, and none that it does",
    mutation(
      "lets every user read the data",
      edit("deploy/replica.service", "StateDirectoryMode=0750", "StateDirectoryMode=0755"),
    ),
    mutation("runs as root", edit("deploy/replica.service", "DynamicUser=yes", "DynamicUser=no")),
  ),
  held(
    "test/store/generation/data-directory.test.ts",
    "%s: nothing is written through it",
    mutation(
      "takes a lock through a link",
      edit("src/store/generation/lock.ts", "O_CREAT | O_RDWR | O_NOFOLLOW", "O_CREAT | O_RDWR"),
    ),
    mutation(
      "follows a log that is a link",
      edit(
        "src/store/generation/consistency.ts",
        'throw damaged(log, "is a link, which may lead out of the data directory");',
      ),
    ),
  ),
  held(
    "test/store/generation/data-directory.test.ts",
    "%s: nothing is made where it leads",
    mutation(
      "makes a database where a link leads",
      edit("src/store/ledger/open-database.ts", "throw isLink(path);"),
    ),
  ),
  held(
    "test/store/generation/data-directory.test.ts",
    "names its holder to a second process",
    mutation(
      "takes a directory that another process holds",
      edit("src/store/generation/lock.ts", "if (!flock(fd)) {", "if (!flock(fd) && fd < 0) {"),
    ),
  ),
  held(
    "test/integration/moved-directory.test.ts",
    "ends if its folder is moved away, and leaves the one in its place alone",
    mutation(
      "uses what is in the place of its folder",
      edit(
        "src/store/generation/lock.ts",
        "if (isThere()) return;",
        "if (isThere() || fd > 0) return;",
      ),
      edit(
        "src/store/generation/data-directory.ts",
        "if (id === undefined || !this.#logs.isMoved(id)) return;",
        "if (id === undefined || !this.#logs.isMoved(id) || id > 0) return;",
      ),
    ),
  ),
  held(
    "test/store/restore/restore-target.test.ts",
    "refuses %s, and writes nothing",
    mutation(
      "restores into a folder that holds something",
      edit("src/store/restore/restore-target.ts", "if (!found.isNew) refuseFilled(found);"),
      edit("src/store/restore/restore-target.ts", "if (!isNew) refuseFilled(target);"),
    ),
    mutation(
      "restores into the data directory",
      edit("src/store/restore/restore-target.ts", "refuseInside(found, fs.realpathSync(dataDir));"),
    ),
  ),
  held(
    "test/store/restore/restore-target.test.ts",
    "a new folder gets the mode that it would get from mkdir",
    mutation(
      "leaves the files of a restore open to everybody",
      edit(
        "src/store/restore/restore-target.ts",
        "const mask = ~process.umask();",
        "const mask = 0o777;",
      ),
    ),
  ),
  held(
    "test/cli/main.test.ts",
    "leaves the environment, and nothing else of it does",
    mutation(
      "leaves the password in the environment",
      edit("src/cli/process.ts", '"REPLICA_PASSWORD"', '"REPLICA_OTHER"'),
    ),
  ),
  held(
    "test/integration/main-job.test.ts",
    "gives nobody more access than the file that it replaces",
    mutation(
      "makes a backup as wide as any file",
      edit("src/upstream/backup.ts", "process.umask() | (0o077 & ~readable)", "process.umask()"),
    ),
  ),
  held(
    "test/store/restore/restore-target.test.ts",
    "nobody may read the result who couldn't read what it comes from",
    mutation(
      "asks nobody who could read the data directory",
      edit(
        "src/store/restore/restore-target.ts",
        "notWider([found.mode], found.gid, gid);",
        "(found.mode & 0) | 0o077;",
      ),
    ),
    mutation(
      "counts no folder above the data directory",
      edit(
        "src/store/restore/restore-target.ts",
        "of(folders, own) & reach &",
        "of(folders, own) &",
      ),
    ),
  ),
];
