import type { GenerationEntry, TimelineEntry } from "./document.ts";

/** A time that is covered, in milliseconds since 1970. */
export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** The parts of the past that can be restored: what the generations span, without the gaps. */
export function coveredSpans({ generations, gaps, oldest_ms, newest_ms }: TimelineEntry): Span[] {
  if (oldest_ms === null || newest_ms === null) return [];
  const whole = generations.map(({ from_ms, to_ms, state }) => ({
    fromMs: from_ms,
    toMs: state === "current" ? Math.max(to_ms, newest_ms) : to_ms,
  }));
  const spans = whole.length === 0 ? [{ fromMs: oldest_ms, toMs: newest_ms }] : whole;
  return spans.flatMap((span) => {
    const inside = gaps.filter((gap) => gap.to_ms > span.fromMs && gap.from_ms < span.toMs);
    const parts: Span[] = [];
    let { fromMs } = span;
    for (const { from_ms, to_ms } of inside) {
      if (from_ms > fromMs) parts.push({ fromMs, toMs: from_ms });
      fromMs = Math.max(fromMs, to_ms);
    }
    if (span.toMs >= fromMs) parts.push({ fromMs, toMs: span.toMs });
    return parts;
  });
}

/** The gap that a moment lies in, if any: nothing came in it, so what was known before it is restored. */
export function gapAt({ gaps }: TimelineEntry, atMs: number) {
  return gaps.find(({ from_ms, to_ms }) => atMs > from_ms && atMs < to_ms);
}

/** The generation that a moment is restored from: the newest that has begun by then. */
export function generationAt(
  { generations }: TimelineEntry,
  atMs: number,
): GenerationEntry | undefined {
  return generations.findLast(({ from_ms }) => from_ms <= atMs);
}
