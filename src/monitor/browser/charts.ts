import type UPlot from "uplot";
import type { EventEntry, SampleColumns, StatusDocument } from "./document.ts";
import { el, say, section } from "./dom.ts";
import { ageText, isoText, sizeText } from "./words.ts";

/** Between two samples that are further apart, nothing is known. */
const APART_MS = 150_000;

/** How long samples stay. */
const KEPT_MS = 86_400_000;

/** The kinds of event that are marked, and by which letter. */
const MARKS: Readonly<Record<string, string>> = {
  "full-resync": "F",
  "partial-resync": "P",
  generation: "S",
  break: "✕",
};

type Values = (number | null)[];

/** What has been told so far: each answer brings only what is new. */
export class Samples {
  #columns: Record<keyof SampleColumns, readonly (number | null)[]> = {
    at_ms: [],
    received: [],
    written: [],
    durable: [],
    archived: [],
    lag_ms: [],
    archive_lag_ms: [],
    is_up: [],
  };

  /** The moment of the last one; 0 before the first. */
  get lastMs(): number {
    return this.#columns.at_ms.at(-1) ?? 0;
  }

  /** The moment of the first one; 0 before it. */
  get firstMs(): number {
    return this.#columns.at_ms[0] ?? 0;
  }

  add(more: SampleColumns, nowMs: number): void {
    const { at_ms } = this.#columns;
    const first = more.at_ms.findIndex((ms) => ms > this.lastMs);
    const old = at_ms.findIndex((ms) => (ms ?? 0) >= nowMs - KEPT_MS);
    for (const name of Object.keys(this.#columns) as (keyof SampleColumns)[]) {
      const kept = old <= 0 ? this.#columns[name] : this.#columns[name].slice(old);
      this.#columns[name] = first < 0 ? kept : [...kept, ...more[name].slice(first)];
    }
  }

  /** The times in seconds, and these columns; with a hole wherever nothing was sampled. */
  lines(
    names: readonly (keyof SampleColumns)[],
    fromMs: number,
  ): { times: number[]; lines: Values[] } {
    const times: number[] = [];
    const lines: Values[] = names.map(() => []);
    let before = Infinity;
    for (const [at, ms] of this.#columns.at_ms.entries()) {
      if (ms === null || ms < fromMs) continue;
      if (ms - before > APART_MS) {
        times.push((before + 1) / 1000);
        for (const line of lines) line.push(null);
      }
      before = ms;
      times.push(ms / 1000);
      for (const [n, name] of names.entries()) lines[n]?.push(this.#columns[name][at] ?? null);
    }
    return { times, lines };
  }
}

/** Steps that are round numbers in binary units, and in milliseconds as people count them. */
const BINARY_STEPS = Array.from({ length: 40 }, (_, power) => 2 ** power);
const TIME_STEPS = [1, 2, 5, 10, 20, 30]
  .flatMap((n) => [n * 100, n * 1000, n * 60_000, n * 3_600_000])
  .toSorted((a, b) => a - b);

/** Times of day in UTC, and the date where it changes. */
function axisTimes(_plot: UPlot, seconds: number[]): string[] {
  return seconds.map((at, n) => {
    const [date, time] = [isoText(at * 1000).slice(5, 10), isoText(at * 1000).slice(11, 16)];
    const before = seconds[n - 1];
    return before === undefined || isoText(before * 1000).slice(5, 10) !== date
      ? `${time}\n${date}`
      : time;
  });
}

interface Line {
  readonly column: keyof SampleColumns;
  readonly label: string;
  readonly color: string;
  /** Each line has a pattern of its own, for who can't tell the colours apart. */
  readonly dash: number[];
}

interface ChartPlan {
  readonly id: string;
  readonly title: string;
  readonly lines: readonly Line[];
  readonly valueText: (value: number) => string;
  readonly steps: number[];
  /** The least that the scale reaches up to. */
  readonly least: number;
}

const RATES: ChartPlan = {
  id: "rates",
  title: "Bytes per second",
  valueText: (value) => `${sizeText(value)}/s`,
  steps: BINARY_STEPS,
  least: 1024,
  lines: [
    { column: "received", label: "in", color: "--line-1", dash: [] },
    { column: "written", label: "written", color: "--line-2", dash: [10, 5] },
    { column: "durable", label: "durable", color: "--line-3", dash: [3, 4] },
    { column: "archived", label: "archived", color: "--line-4", dash: [12, 4, 3, 4] },
  ],
};

const LAG: ChartPlan = {
  id: "lag",
  title: "Lag",
  valueText: (value) => (value < 60_000 ? `${(value / 1000).toFixed(1)} s` : ageText(value)),
  steps: TIME_STEPS,
  least: 5_000,
  lines: [
    { column: "lag_ms", label: "disk", color: "--line-1", dash: [] },
    { column: "archive_lag_ms", label: "archive", color: "--line-4", dash: [12, 4, 3, 4] },
  ],
};

/** One chart. */
class Chart {
  readonly element: HTMLElement;
  readonly #plan: ChartPlan;
  readonly #target = el("div", { class: "plot", role: "img" });
  #plot: UPlot | undefined;
  #look = "";
  #events: readonly EventEntry[] = [];
  #down: readonly (number | null)[] = [];

  constructor(plan: ChartPlan) {
    this.#plan = plan;
    this.element = section(plan.id, plan.title, this.#target);
  }

  show(samples: Samples, shown: StatusDocument, fromMs: number): void {
    const lines = this.#plan.lines.filter(
      ({ column }) => shown.archive !== null || !column.startsWith("archive"),
    );
    const { times, lines: values } = samples.lines(
      [...lines.map(({ column }) => column), "is_up"],
      fromMs,
    );
    this.#down = values.pop() ?? [];
    this.#events = shown.events;
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const width = this.#target.clientWidth;
    const look = JSON.stringify([isDark, width, lines.length]);
    if (look !== this.#look) {
      this.#plot?.destroy();
      this.#plot = this.#make(lines, width);
      this.#look = look;
    }
    const data = [times, ...values] as unknown as UPlot.AlignedData;
    this.#plot?.setData(data, false);
    this.#plot?.setScale("x", { min: fromMs / 1000, max: shown.now_ms / 1000 });
    const summary = lines.map(({ label }, n) => this.#inWords(label, values[n] ?? []));
    this.#target.setAttribute("aria-label", `${this.#plan.title}: ${summary.join("; ")}`);
  }

  #inWords(label: string, values: Values): string {
    const known = values.filter((value) => value !== null);
    const [last, { valueText }] = [known.at(-1), this.#plan];
    if (last === undefined) return `${label} not known`;
    return `${label} ${valueText(last)} now, ${valueText(Math.max(...known))} at most`;
  }

  #make(lines: readonly Line[], width: number): UPlot | undefined {
    const { uPlot: Plot } = globalThis as unknown as { uPlot?: typeof UPlot };
    if (Plot === undefined || width === 0) return undefined;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: color("--quiet"),
      grid: { stroke: color("--grid"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    const { valueText, least, steps } = this.#plan;
    const options: UPlot.Options = {
      width,
      height: 220,
      tzDate: (seconds) => Plot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: true, auto: false },
        y: { range: (_self, _min, max) => [0, Math.max(least, (max ?? 0) * 1.1)] },
      },
      axes: [
        { ...axis, values: axisTimes },
        {
          ...axis,
          size: 76,
          incrs: steps,
          values: (_self, ticks) => ticks.map((value) => valueText(value)),
        },
      ],
      series: [
        { label: "at", value: "{HH}:{mm}:{ss}" },
        ...lines.map(({ label, color: name, dash }) => ({
          label,
          dash,
          stroke: color(name),
          width: 1.8,
          points: { show: false },
          value: (_self: UPlot, value: number | null) => (value === null ? "–" : valueText(value)),
        })),
      ],
      legend: { markers: { width: 0 } },
      hooks: {
        drawClear: [(plot) => this.#shadeDown(plot, color("--shade"))],
        draw: [(plot) => this.#mark(plot, color("--quiet"))],
      },
    };
    const plot = new Plot(options, [[], ...lines.map(() => [])], this.#target);
    this.#patterns(lines, color);
    return plot;
  }

  /** Shows in the legend how each line is drawn: its colour and its pattern. */
  #patterns(lines: readonly Line[], color: (name: string) => string): void {
    const rows = [...this.#target.querySelectorAll(".u-series")].slice(1);
    for (const [n, row] of rows.entries()) {
      const line = lines[n];
      if (line === undefined) continue;
      const sign = el("canvas", { class: "sign", width: "56", height: "8", "aria-hidden": "true" });
      const pen = sign.getContext("2d");
      if (pen !== null) {
        pen.strokeStyle = color(line.color);
        pen.lineWidth = 4;
        pen.setLineDash(line.dash.map((length) => length * 2));
        pen.moveTo(0, 4);
        pen.lineTo(56, 4);
        pen.stroke();
      }
      row.querySelector("th")?.prepend(sign);
    }
  }

  /** Times in which no data could come are shaded. */
  #shadeDown(plot: UPlot, color: string): void {
    const { ctx, bbox } = plot;
    const times = plot.data[0];
    ctx.save();
    ctx.fillStyle = color;
    const place = (at: number) =>
      Math.round(
        Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(at, "x", true))),
      );
    // As one piece each: seams between pieces would show.
    let from: number | undefined;
    for (const [at, up] of [...this.#down, 1].entries()) {
      if (up === 0) from ??= times[at - 1] ?? times[at];
      else if (from !== undefined) {
        const [left, right] = [place(from), place(times[at - 1] ?? from)];
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
        from = undefined;
      }
    }
    ctx.restore();
  }

  /** Syncs, breaks and new snapshots are lines with a letter. */
  #mark(plot: UPlot, color: string): void {
    const { ctx, bbox } = plot;
    const scale = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = color;
    ctx.fillStyle = color;
    ctx.lineWidth = scale;
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    let before = Infinity;
    for (const { at_ms, kind } of this.#events) {
      const [sign, x] = [MARKS[kind], plot.valToPos(at_ms / 1000, "x", true)];
      if (sign === undefined || x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.globalAlpha = 0.35;
      ctx.stroke();
      ctx.globalAlpha = 1;
      // Letters that would lie upon each other can't be read.
      if (before - x < 11 * scale) continue;
      ctx.fillText(sign, x, bbox.top - 4 * scale);
      before = x;
    }
    ctx.restore();
  }
}

/** The charts of the last hours. */
export class ChartsPanel {
  readonly element: HTMLElement;
  readonly #charts = [new Chart(RATES), new Chart(LAG)];
  readonly #explained = el("p", { class: "label" });

  constructor() {
    const grid = el("div", { class: "charts" }, ...this.#charts.map(({ element }) => element));
    say(
      this.#explained,
      "F full resync · P partial resync · S new snapshot · ✕ break · shaded: no data could come. Times are UTC.",
    );
    this.element = el("div", {}, grid, this.#explained);
  }

  show(samples: Samples, shown: StatusDocument, fromMs: number): void {
    for (const chart of this.#charts) chart.show(samples, shown, fromMs);
  }
}
