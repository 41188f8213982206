/** One place of a file: a text that stands there exactly once, and what is put in its place. */
export interface Edit {
  /** Its path in the checkout. */
  readonly file: string;
  readonly text: string;
  readonly put: string;
}

/** A change of the program that breaks a promise. */
export interface Mutation {
  /** What the changed program does wrong, in a few words. */
  readonly breaks: string;
  /** One as a rule; more where the promise is held in several places. */
  readonly edits: readonly Edit[];
  /** How often the test is run, at most, until it fails. */
  readonly tries: number;
}

/** A test that SECURITY.md names, and mutations that make it fail. */
export interface HeldPromise {
  /** The test's file and name, as SECURITY.md has them. */
  readonly file: string;
  readonly name: string;
  readonly mutations: readonly Mutation[];
  /** The full name of one test among many that bear the name: it alone is run. */
  readonly one?: string;
}

/** Makes an entry of a table. */
export function held(file: string, name: string, ...mutations: Mutation[]): HeldPromise {
  return { file, name, mutations };
}

/** The same where many tests bear the name, and all of them take long. @param one the full name of the one to run. */
export function heldByMany(
  file: string,
  name: string,
  one: string,
  ...mutations: Mutation[]
): HeldPromise {
  return { file, name, one, mutations };
}

export function mutation(breaks: string, ...edits: Edit[]): Mutation {
  return { breaks, edits, tries: 1 };
}

/** The same where it hangs on what the kernel delivers first whether a run meets what is broken. */
export function mutationMetAtTimes(breaks: string, ...edits: Edit[]): Mutation {
  return { breaks, edits, tries: 10 };
}

/** @param put what is put in the place of `text`; nothing by default. */
export function edit(file: string, text: string, put = ""): Edit {
  return { file, text, put };
}

/** A mistake in a table: it must follow the code. */
export class TableError extends Error {}

/**
 * Returns `source` with the edit made.
 * @throws TableError where its text isn't there exactly once, or where what comes out does not parse, or does the same.
 */
export function edited(source: string, { file, text, put }: Edit): string {
  const times = source.split(text).length - 1;
  if (text === "" || times !== 1) {
    throw new TableError(`${file} has this text ${times} times, not once: ${text}`);
  }
  const changed = source.replace(text, () => put);
  if (codeOf(file, changed) === codeOf(file, source)) {
    throw new TableError(`${file}: this changes nothing that the program does: ${text}`);
  }
  return changed;
}

/** A source without its comments and types, in one form; any other file as it is. */
function codeOf(file: string, source: string): string {
  if (!file.endsWith(".ts")) return source;
  try {
    return new Bun.Transpiler({ loader: "ts" }).transformSync(source);
  } catch (cause) {
    throw new TableError(`${file} does not parse after the change`, { cause });
  }
}
