import { edit, held, mutation, type HeldPromise } from "./mutation.ts";

/** Dependencies. */
export const dependencies: readonly HeldPromise[] = [
  held(
    "test/dependencies.test.ts",
    "every package is pinned, and both lock files hold the same checksum of each that may come",
    mutation("leaves a version open", edit("package.json", '"ms": "2.1.3"', '"ms": "^2.1.3"')),
  ),
  held(
    "test/dependencies.test.ts",
    "fails where one character of %s's differs",
    mutation("lets npm pass over the lock file", edit(".npmrc", "\n", "\npackage-lock=false\n")),
  ),
  held(
    "test/dependencies.test.ts",
    "leaves out a Bun whose checksum differs: it is never run",
    mutation("lets npm pass over the lock file", edit(".npmrc", "\n", "\npackage-lock=false\n")),
  ),
  held(
    "test/dependencies.test.ts",
    "what npm packs brings the packages under its direct ones along: a lock file is not packed",
    mutation(
      "leaves open what lies under a package",
      edit("package.json", '"cli-progress",\n    "prom-client"\n', '"cli-progress"\n'),
    ),
  ),
  held(
    "test/integration/program.test.ts",
    "ignores Bun's settings files in the folder where it is started",
    mutation(
      "reads the .env of any folder",
      edit("package.json", "--no-compile-autoload-dotenv ", "--compile-autoload-dotenv "),
    ),
    mutation(
      "reads the bunfig.toml of any folder",
      edit("package.json", "--no-compile-autoload-bunfig ", "--compile-autoload-bunfig "),
    ),
  ),
];
