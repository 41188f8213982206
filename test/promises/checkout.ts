import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { edited, type Mutation, TableError } from "./mutation.ts";

/** A copy of a checkout, to be changed. */
export class Checkout {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Copies what git knows in `from`, and what is new there, as it stands in the working tree; packages are linked.
   * @param to a folder that does not exist.
   * @throws Error where `from` is no checkout.
   */
  static copy(from: string, to: string): Checkout {
    const listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    const git = Bun.spawnSync(["git", ...listed], { cwd: from });
    if (!git.success) throw new Error(`git ls-files: ${git.stderr.toString().trim()}`);
    for (const path of new Set(git.stdout.toString().split("\0"))) {
      const source = join(from, path);
      // A file that git knows may have been removed since.
      if (path === "" || !existsSync(source)) continue;
      mkdirSync(dirname(join(to, path)), { recursive: true });
      cpSync(source, join(to, path), { verbatimSymlinks: true });
    }
    symlinkSync(join(from, "node_modules"), join(to, "node_modules"));
    return new Checkout(to);
  }

  /**
   * Makes the edits; what is returned takes them back when it is disposed of.
   * @throws TableError of `edited`, or where a file is not there; nothing is changed then.
   */
  change({ edits }: Mutation): Disposable {
    const before = new Map<string, string>();
    const after = new Map<string, string>();
    for (const edit of edits) {
      const path = join(this.path, edit.file);
      if (!existsSync(path)) throw new TableError(`there is no ${edit.file}`);
      const source = after.get(path) ?? readFileSync(path, "utf8");
      if (!before.has(path)) before.set(path, source);
      after.set(path, edited(source, edit));
    }
    for (const [path, text] of after) writeFileSync(path, text);
    return {
      [Symbol.dispose]: () => {
        for (const [path, text] of before) writeFileSync(path, text);
      },
    };
  }
}
