/*
 * The page, live. Nothing on it changes anything: it asks for `/status.json` and shows what that says. All text goes into
 * text nodes, since much of it comes from peers.
 */
import { ChartsPanel, Samples } from "./charts.ts";
import type { StatusDocument } from "./document.ts";
import { byId, el, say } from "./dom.ts";
import {
  DownstreamsPanel,
  EventsPanel,
  FiguresPanel,
  ShardsPanel,
  showHeadline,
} from "./panels.ts";
import { Poll } from "./poll.ts";
import { TimelinePanel } from "./timeline.ts";
import { ageText, clockText } from "./words.ts";

/** How often a change of the state is read aloud at most, unless it is another kind of state. */
const ALOUD_EVERY_MS = 30_000;

const HOUR_MS = 3_600_000;
const RANGES = [
  ["1", "the last hour"],
  ["6", "the last 6 hours"],
  ["24", "the last day"],
  ["0", "everything"],
] as const;

/** Chooses how far back something is shown; 0 hours: as far as there is. */
function rangeSelect(id: string, hours: string): HTMLSelectElement {
  const options = RANGES.map(([value, text]) => el("option", { value }, text));
  const select = el("select", { id }, ...options);
  select.value = hours;
  return select;
}

/** Reads a change of the state aloud, for who can't see the page. */
class Announcer {
  readonly #region = byId("announced");
  #told = "";
  #toldAtMs = -Infinity;

  say = (text: string): void => {
    this.#region.textContent = text;
  };

  tell({ headline, ready }: StatusDocument): void {
    const kind = `${headline.tone} ${headline.state.replace(/[\d.]+ ?\w*/g, "")} ${String(ready)}`;
    const isDue = performance.now() - this.#toldAtMs > ALOUD_EVERY_MS;
    if (kind === this.#told && (headline.tone !== "busy" || !isDue)) return;
    // What the page says when it is opened is read as the page is.
    if (this.#told !== "") this.say(`${headline.state}, ${ready ? "ready" : "not ready"}`);
    this.#told = kind;
    this.#toldAtMs = performance.now();
  }
}

/** The page's parts, and what they show. */
class StatusPage {
  readonly #samples = new Samples();
  readonly #announcer = new Announcer();
  readonly #range = rangeSelect("range", "6");
  readonly #timelineRange = rangeSelect("timeline-range", "0");
  readonly #shards = new ShardsPanel();
  readonly #timeline = new TimelinePanel(this.#announcer.say);
  readonly #charts = new ChartsPanel();
  readonly #downstreams = new DownstreamsPanel();
  readonly #events = new EventsPanel();
  readonly #figures = new FiguresPanel(byId("figures") as HTMLDetailsElement);
  readonly #shard = new URLSearchParams(location.search).get("shard");
  #document: StatusDocument | undefined;
  #seenAtMs = 0;

  constructor() {
    const choose = (text: string, select: HTMLElement) =>
      el("p", { class: "choose" }, el("label", { for: select.id }, `${text} `), select);
    const range = choose("Charts of", this.#range);
    this.#timeline.element.querySelector("h2")?.after(choose("Show", this.#timelineRange));
    if (this.#shard !== null) byId("about").before(el("a", { href: "/" }, "All shards"));
    const both = el("div", { class: "columns" }, this.#downstreams.element, this.#events.element);
    byId("drawn").append(
      this.#shards.element,
      this.#timeline.element,
      range,
      this.#charts.element,
      both,
    );
    for (const select of [this.#range, this.#timelineRange]) {
      select.addEventListener("change", () => this.#draw());
    }
    addEventListener("resize", () => this.#draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    const details = byId("figures");
    details.addEventListener("toggle", () => this.#document && this.#figures.show(this.#document));
  }

  /** Where to ask for what is not known yet. */
  url = (): string => {
    const query = new URLSearchParams({ since: String(this.#samples.lastMs) });
    if (this.#shard !== null) query.set("shard", this.#shard);
    return `/status.json?${query}`;
  };

  show = (shown: StatusDocument): void => {
    this.#document = shown;
    this.#seenAtMs = Date.now();
    say(byId("stale"), "");
    delete document.body.dataset["stale"];
    this.#samples.add(shown.samples, shown.now_ms);
    this.#announcer.tell(shown);
    this.#draw();
  };

  broken = (why: string, nextMs: number): void => {
    const since =
      this.#seenAtMs === 0
        ? "It has not answered yet."
        : `What is shown is of ${clockText(this.#seenAtMs)}, and may be out of date.`;
    document.body.dataset["stale"] = "yes";
    document.title = "replica: no answer";
    say(
      byId("stale"),
      `No answer from the replica (${why}). ${since} The next try is in ${ageText(nextMs)}.`,
    );
  };

  #draw(): void {
    const shown = this.#document;
    if (shown === undefined) return;
    showHeadline(shown);
    this.#shards.show(shown);
    const wanted = Number(this.#timelineRange.value);
    this.#timeline.show(shown, wanted === 0 ? 0 : shown.now_ms - wanted * HOUR_MS);
    this.#charts.show(this.#samples, shown, this.#chartFrom(shown));
    this.#downstreams.show(shown);
    this.#events.show(shown);
    this.#figures.show(shown);
  }

  /** A chart begins where something is known: of a replica that has just begun, six hours would show nothing. */
  #chartFrom({ now_ms }: StatusDocument): number {
    const wanted = now_ms - (Number(this.#range.value) || 24) * HOUR_MS;
    return Math.min(now_ms - 60_000, Math.max(wanted, this.#samples.firstMs));
  }
}

const page = new StatusPage();
const poll = new Poll({ url: page.url, onDocument: page.show, onBroken: page.broken });
void poll.ask();
