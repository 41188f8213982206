/** What some keys of a snapshot amount to. */
export interface Amount {
  readonly keys: number;
  /** What they take in the snapshot's file. */
  readonly bytes: number;
  /** Of the `counted` keys. */
  readonly elements: number;
  /** How many keys have elements that are known: neither strings nor what modules keep. */
  readonly counted: number;
}

/** Counts keys. */
export class Tally implements Amount {
  keys = 0;
  bytes = 0;
  elements = 0;
  counted = 0;

  /** Adds one key. @param elements undefined: it has none, or they are unknown. */
  add(bytes: number, elements: number | undefined): void {
    this.keys += 1;
    this.bytes += bytes;
    if (elements === undefined) return;
    this.elements += elements;
    this.counted += 1;
  }

  /** Adds the keys of another tally. */
  addAll({ keys, bytes, elements, counted }: Amount): void {
    this.keys += keys;
    this.bytes += bytes;
    this.elements += elements;
    this.counted += counted;
  }
}
