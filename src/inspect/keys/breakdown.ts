import type { KeyEntry } from "./key-entry.ts";
import { type Amount, Tally } from "./tally.ts";

/** Databases that are counted apart: servers have 16 by default. A made-up snapshot could name one for each key. */
export const MAX_DATABASES = 1_000;
/** Types of modules that are counted apart: a server loads a few modules. */
export const MAX_MODULES = 100;

/** The keys of one type: one that servers know, or a module's by its name. */
export interface TypeAmount extends Amount {
  readonly kind: string;
  /** Undefined for what isn't a module's, and for one whose name isn't known or that is one of too many. */
  readonly module: string | undefined;
}

export interface EncodingAmount extends TypeAmount {
  readonly encoding: string;
}

export interface DatabaseAmount extends Amount {
  /** Undefined: all those that are too many to be counted apart. */
  readonly db: number | undefined;
}

/** Keys of one database that have one type and one encoding. */
interface Leaf {
  readonly kind: string;
  readonly module: string | undefined;
  readonly encoding: string;
  readonly tally: Tally;
}

interface Database {
  readonly db: number | undefined;
  /** By kind, then by encoding; a module's types are told apart by their names instead. */
  readonly leaves: Map<string, Map<string | undefined, Leaf>>;
}

/** Counts keys by database, type and encoding, in bounded memory. One lookup for each key: the sums are made in the end. */
export class Breakdown {
  readonly #databases = new Map<number | undefined, Database>();
  readonly #modules = new Set<string>();
  /** Keys come database by database. */
  #last: Database | undefined;

  add(entry: KeyEntry, bytes: number): void {
    const database = this.#last?.db === entry.db ? this.#last : this.#databaseOf(entry.db);
    this.#last = database;
    const isModule = entry.kind === "module";
    const name = isModule ? this.#nameOf(entry.module) : entry.encoding;
    let ofKind = database.leaves.get(entry.kind);
    if (ofKind === undefined) database.leaves.set(entry.kind, (ofKind = new Map()));
    let leaf = ofKind.get(name);
    if (leaf === undefined) {
      const { kind, encoding } = entry;
      leaf = { kind, encoding, module: isModule ? name : undefined, tally: new Tally() };
      ofKind.set(name, leaf);
    }
    leaf.tally.add(bytes, entry.elements);
  }

  #databaseOf(db: number): Database {
    const known = this.#databases.get(db);
    if (known !== undefined) return known;
    const isOneTooMany = this.#databases.size >= MAX_DATABASES;
    const place = isOneTooMany ? undefined : db;
    let database = this.#databases.get(place);
    if (database === undefined) {
      database = { db: place, leaves: new Map() };
      this.#databases.set(place, database);
    }
    return database;
  }

  #nameOf(module: string | undefined): string | undefined {
    if (module === undefined || this.#modules.has(module)) return module;
    if (this.#modules.size >= MAX_MODULES) return undefined;
    this.#modules.add(module);
    return module;
  }

  /** All keys. */
  total(): Amount {
    const sum = new Tally();
    for (const { tally } of this.#leaves()) sum.addAll(tally);
    return sum;
  }

  /** The types with the most bytes first. */
  types(): TypeAmount[] {
    const sums = sumsBy(this.#leaves(), ({ kind, module }) => JSON.stringify([kind, module]));
    return biggestFirst(
      sums.map(([{ kind, module }, sum]) => ({ kind, module, ...amountOf(sum) })),
    );
  }

  /** Each type with each of its encodings, those with the most bytes first. */
  encodings(): EncodingAmount[] {
    const sums = sumsBy(this.#leaves(), ({ kind, module, encoding }) =>
      JSON.stringify([kind, module, encoding]),
    );
    return biggestFirst(
      sums.map(([{ kind, module, encoding }, sum]) => ({
        kind,
        module,
        encoding,
        ...amountOf(sum),
      })),
    );
  }

  /** In the order of their numbers. */
  databases(): DatabaseAmount[] {
    return [...this.#databases.values()]
      .toSorted((a, b) => (a.db ?? Infinity) - (b.db ?? Infinity))
      .map(({ db, leaves }) => {
        const sum = new Tally();
        for (const { tally } of [...leaves.values()].flatMap((some) => [...some.values()]))
          sum.addAll(tally);
        return { db, ...amountOf(sum) };
      });
  }

  *#leaves(): Generator<Leaf> {
    for (const { leaves } of this.#databases.values())
      for (const ofKind of leaves.values()) yield* ofKind.values();
  }
}

/** The sums of the leaves with the same name, each beside the first of these. */
function sumsBy(leaves: Iterable<Leaf>, nameOf: (leaf: Leaf) => string): [Leaf, Tally][] {
  const sums = new Map<string, [Leaf, Tally]>();
  for (const leaf of leaves) {
    const name = nameOf(leaf);
    let found = sums.get(name);
    if (found === undefined) sums.set(name, (found = [leaf, new Tally()]));
    found[1].addAll(leaf.tally);
  }
  return [...sums.values()];
}

function amountOf({ keys, bytes, elements, counted }: Amount): Amount {
  return { keys, bytes, elements, counted };
}

function biggestFirst<T extends Amount>(amounts: T[]): T[] {
  return amounts.toSorted((a, b) => b.bytes - a.bytes);
}
