/** How many slots a cluster's keys are spread over ("Redis cluster specification"). */
export const SLOTS = 16_384;

/** Slots from the first to the last, both included. */
export type SlotRange = readonly [first: number, last: number];

/** Whether a slot is in one of the ranges. */
export function hasSlot(ranges: readonly SlotRange[], slot: number): boolean {
  return ranges.some(([first, last]) => first <= slot && slot <= last);
}

/** How many slots are in ranges that don't overlap. */
export function countSlots(ranges: readonly SlotRange[]): number {
  return ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

/** The fewest ranges that hold the slots for which `isIn` says so, in ascending order. */
export function rangesWhere(isIn: (slot: number) => boolean): SlotRange[] {
  const ranges: SlotRange[] = [];
  let first: number | undefined;
  for (let slot = 0; slot <= SLOTS; slot++) {
    const isHere = slot < SLOTS && isIn(slot);
    if (isHere) first ??= slot;
    else if (first !== undefined) {
      ranges.push([first, slot - 1]);
      first = undefined;
    }
  }
  return ranges;
}

/** As `nodes.conf` and `CLUSTER NODES` write them: `0-5460 5462`; empty for none. */
export function formatRanges(ranges: readonly SlotRange[]): string {
  return ranges
    .map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`))
    .join(" ");
}

/** Reads what `formatRanges` writes. Undefined for anything else. */
export function parseRanges(text: string): SlotRange[] | undefined {
  const ranges: SlotRange[] = [];
  for (const word of text.split(" ").filter((one) => one !== "")) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(word);
    if (match === null) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first > last || last >= SLOTS) return undefined;
    ranges.push([first, last]);
  }
  return ranges;
}

/** The slots of ranges, one by one. */
export function* slotsIn(ranges: readonly SlotRange[]): Generator<number> {
  for (const [first, last] of ranges) {
    for (let slot = first; slot <= last; slot++) yield slot;
  }
}
