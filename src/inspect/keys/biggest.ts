/** An item, how big it is, and its place among all that were added. */
interface Ranked<T> {
  readonly size: number;
  readonly turn: number;
  readonly item: T;
}

/** Keeps the biggest of many items: a heap with the smallest of these at its root. Of two that are as big, the first. */
export class Biggest<T> {
  readonly #most: number;
  readonly #heap: Ranked<T>[] = [];
  #turns = 0;

  /** @param most how many to keep. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Whether an item of that size is kept. Ask before it is made. */
  takes(size: number): boolean {
    if (this.#heap.length < this.#most) return true;
    const smallest = this.#heap[0];
    return smallest !== undefined && size > smallest.size;
  }

  /** Adds an item, if it is kept. */
  add(size: number, item: T): void {
    if (!this.takes(size)) return;
    const ranked = { size, turn: this.#turns++, item };
    if (this.#heap.length < this.#most) {
      this.#heap.push(ranked);
      this.#rise(this.#heap.length - 1);
    } else {
      this.#heap[0] = ranked;
      this.#sink(0);
    }
  }

  /** The biggest first. */
  items(): T[] {
    const isBefore = (a: Ranked<T>, b: Ranked<T>) => b.size - a.size || a.turn - b.turn;
    return this.#heap.toSorted(isBefore).map(({ item }) => item);
  }

  /** Whether `a` leaves before `b`. */
  #isLess(a: number, b: number): boolean {
    const [one, other] = [this.#heap[a]!, this.#heap[b]!];
    return one.size < other.size || (one.size === other.size && one.turn > other.turn);
  }

  #swap(a: number, b: number): void {
    const kept = this.#heap[a]!;
    this.#heap[a] = this.#heap[b]!;
    this.#heap[b] = kept;
  }

  #rise(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >>> 1;
      if (!this.#isLess(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(from: number): void {
    for (let at = from; ;) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < this.#heap.length && this.#isLess(child, least)) least = child;
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }
}
