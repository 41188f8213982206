import { restoreCommand } from "./command.ts";
import { coveredSpans, gapAt, generationAt, type Span } from "./covered.ts";
import type { StatusDocument, TimelineEntry } from "./document.ts";
import { el, say, section, Table } from "./dom.ts";
import { ageText, clockText, countText, momentText, sizeText } from "./words.ts";

/** A command to copy. */
class Command {
  readonly element: HTMLElement;
  readonly #code = el("code", { tabindex: "0" });
  readonly #button: HTMLButtonElement;

  constructor(label: string, announce: (text: string) => void) {
    this.#button = el(
      "button",
      { type: "button", "aria-label": `Copy the command that restores ${label}` },
      "Copy",
    );
    this.#button.addEventListener("click", () => {
      void this.#copy().then((isDone) => {
        say(this.#button, isDone ? "Copied" : "Press Ctrl+C");
        announce(isDone ? "The command is copied." : "The command is selected: copy it.");
        setTimeout(() => say(this.#button, "Copy"), 2_000);
      });
    });
    const line = el("div", { class: "command" }, this.#code, this.#button);
    this.element = el("div", {}, el("p", { class: "label" }, label), line);
  }

  show(command: string): void {
    say(this.#code, command);
  }

  async #copy(): Promise<boolean> {
    const text = this.#code.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Only a page from this machine, or over TLS, may use that.
      getSelection()?.selectAllChildren(this.#code);
      // oxlint-disable-next-line typescript/no-deprecated -- the only way over plain HTTP
      return document.execCommand("copy");
    }
  }
}

/** What can be restored, as a line of time; the moment that is pointed at, tapped or chosen by keys gives its command. */
export class TimelinePanel {
  readonly element: HTMLElement;
  readonly #range = el("p");
  readonly #disk = el("div", { class: "track" });
  readonly #archive = el("div", { class: "track archive" });
  readonly #archiveLane: HTMLElement;
  readonly #axis = el("div", { class: "axis", "aria-hidden": "true" });
  readonly #slider = el("input", { type: "range", id: "moment", step: "1000" });
  readonly #moment = el("p", { id: "moment-text" });
  readonly #fromDisk: Command;
  readonly #fromArchive: Command;
  readonly #generations = new Table("Generations", [
    "Generation",
    "State",
    "From",
    "To",
    "Snapshot",
    "Log",
    "In the archive",
  ]);
  readonly #gaps = new Table("Gaps", ["From", "To", "For"]);
  #document: StatusDocument | undefined;
  /** The moment that somebody chose; undefined: the newest, whatever comes. */
  #chosenMs: number | undefined;
  #fromMs = 0;

  constructor(announce: (text: string) => void) {
    this.#fromDisk = new Command("From this disk", announce);
    this.#fromArchive = new Command("From the archive", announce);
    const lane = (name: string, track: HTMLElement) =>
      el("div", { class: "lane" }, el("span", { class: "name" }, name), track);
    this.#archiveLane = lane("Archive", this.#archive);
    const lanes = el("div", {
      class: "lanes",
      role: "img",
      "aria-label": "The times that can be restored",
    });
    lanes.append(lane("Disk", this.#disk), this.#archiveLane, lane("", this.#axis));
    const slider = el(
      "div",
      { class: "lane" },
      el("label", { class: "name", for: "moment" }, "Moment"),
      this.#slider,
    );
    this.element = section(
      "timeline",
      "What can be restored",
      this.#range,
      lanes,
      slider,
      this.#moment,
      this.#fromDisk.element,
      this.#fromArchive.element,
      el(
        "details",
        {},
        el("summary", {}, "Generations and gaps"),
        el("p", { class: "label" }, "Generations"),
        this.#generations.element,
        el("p", { class: "label" }, "Gaps: nothing came then"),
        this.#gaps.element,
      ),
    );
    this.#slider.addEventListener("input", () => this.#choose(Number(this.#slider.value)));
    for (const track of [this.#disk, this.#archive]) this.#listen(track);
  }

  #listen(track: HTMLElement): void {
    const at = (event: PointerEvent) => {
      const { left, width } = track.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
      const [from, to] = [Number(this.#slider.min), Number(this.#slider.max)];
      return from + share * (to - from);
    };
    track.addEventListener("pointermove", (event) => this.#point(at(event)));
    track.addEventListener("pointerdown", (event) => this.#choose(at(event)));
    track.addEventListener("pointerleave", () => this.#point(this.#chosenMs));
  }

  #choose(atMs: number): void {
    this.#chosenMs = atMs;
    this.#point(atMs);
  }

  /** @param fromMs where the line of time begins at the earliest. */
  show(shown: StatusDocument, fromMs: number): void {
    this.#document = shown;
    const { timeline, archive } = shown;
    const { oldest_ms: oldest, newest_ms: newest } = timeline;
    this.#fromMs = Math.max(fromMs, oldest ?? fromMs);
    say(this.#range, rangeText(timeline));
    this.element.toggleAttribute("data-empty", oldest === null || newest === null);
    if (oldest === null || newest === null) return;
    // A whole second that is not before the oldest moment, and none after the newest.
    const from = Math.min(Math.ceil(this.#fromMs / 1000) * 1000, newest);
    this.#slider.min = String(from);
    this.#slider.max = String(newest);
    this.#archiveLane.hidden = archive === null;
    this.#draw(timeline, from, newest);
    this.#fillTables(timeline);
    this.#point(this.#chosenMs);
  }

  #draw(timeline: TimelineEntry, fromMs: number, toMs: number): void {
    const place = (element: HTMLElement, span: Span) => {
      const share = (ms: number) =>
        Math.min(1, Math.max(0, (ms - fromMs) / Math.max(1, toMs - fromMs)));
      element.style.left = `${share(span.fromMs) * 100}%`;
      element.style.width = `${(share(span.toMs) - share(span.fromMs)) * 100}%`;
      return element;
    };
    const spans = coveredSpans(timeline).filter((span) => span.toMs >= fromMs);
    const ticks = timeline.generations
      .filter(({ from_ms }) => from_ms >= fromMs)
      .map(({ id, from_ms }) =>
        place(el("i", { class: "tick", title: `snapshot of generation ${id}` }), {
          fromMs: from_ms,
          toMs: from_ms,
        }),
      );
    const parts = (some: readonly Span[]) =>
      some.map((span) => place(el("i", { class: "covered" }), span));
    this.#disk.replaceChildren(...parts(spans), ...ticks);
    const archived = timeline.archived_ms;
    const until = archived === null ? [] : spans.filter((span) => span.fromMs <= archived);
    const cut = until
      .filter((span) => isArchived(timeline, span))
      .map((span) => ({ fromMs: span.fromMs, toMs: Math.min(span.toMs, archived ?? 0) }));
    this.#archive.replaceChildren(...parts(cut));
    const isLong = toMs - fromMs > 86_400_000;
    const label = (ms: number) =>
      isLong ? momentText(ms).slice(0, 16) : clockText(ms).slice(0, 8);
    this.#axis.replaceChildren(
      el("span", {}, label(fromMs)),
      el("span", {}, label((fromMs + toMs) / 2)),
      el("span", {}, label(toMs)),
    );
  }

  #fillTables({ generations, gaps }: TimelineEntry): void {
    const rows = generations
      .toReversed()
      .map((one) => [
        String(one.id),
        one.sealed_reason === null ? one.state : `${one.state}: ${one.sealed_reason}`,
        momentText(one.from_ms),
        momentText(one.to_ms),
        sizeText(one.rdb_bytes),
        sizeText(Math.max(0, one.to_offset - one.from_offset)),
        { all: "all of it", part: "part of it", none: "no" }[one.archived],
      ]);
    this.#generations.fill(rows);
    this.#gaps.fill(
      gaps
        .toReversed()
        .map(({ from_ms, to_ms }) => [
          momentText(from_ms),
          momentText(to_ms),
          ageText(to_ms - from_ms),
        ]),
    );
  }

  /** Shows the moment, and the commands that restore it; undefined: the newest. */
  #point(wantedMs: number | undefined): void {
    const shown = this.#document;
    if (shown === undefined || shown.timeline.newest_ms === null) return;
    const { timeline, directory, archive, now_ms } = shown;
    const [min, max] = [Number(this.#slider.min), Number(this.#slider.max)];
    const atMs = Math.min(max, Math.max(min, wantedMs ?? max));
    const isNewest = wantedMs === undefined;
    this.#slider.value = String(atMs);
    this.#slider.setAttribute("aria-valuetext", momentText(atMs));
    say(this.#moment, momentWords(timeline, atMs, isNewest, now_ms));
    this.#fromDisk.show(restoreCommand(directory, atMs));
    const generation = generationAt(timeline, atMs);
    const isThere =
      archive !== null &&
      timeline.archived_ms !== null &&
      atMs <= timeline.archived_ms &&
      generation?.archived !== "none";
    this.#fromArchive.element.hidden = !isThere;
    if (isThere) this.#fromArchive.show(restoreCommand(archive, atMs));
  }
}

/** Whether the archive has the generation that a covered time belongs to. */
function isArchived(timeline: TimelineEntry, { fromMs }: Span): boolean {
  if (timeline.generations.length === 0) return true;
  const generation = generationAt(timeline, fromMs);
  return generation !== undefined && generation.archived !== "none";
}

function rangeText({ oldest_ms, newest_ms, gaps }: TimelineEntry): string {
  if (oldest_ms === null || newest_ms === null) return "Nothing can be restored yet.";
  const inside = gaps.filter(({ to_ms }) => to_ms > oldest_ms).length;
  const counted = inside === 1 ? "There is one gap" : `There are ${inside} gaps`;
  const but = inside === 0 ? "" : ` ${counted}, in which nothing came.`;
  return `Any second from ${momentText(oldest_ms)} to ${momentText(newest_ms)}: ${ageText(newest_ms - oldest_ms)}.${but}`;
}

function momentWords(
  timeline: TimelineEntry,
  atMs: number,
  isNewest: boolean,
  nowMs: number,
): string {
  const which = isNewest ? "The newest moment" : momentText(atMs);
  const when = isNewest
    ? `${momentText(atMs)}, ${ageText(nowMs - atMs)} ago`
    : `${ageText(nowMs - atMs)} ago`;
  const generation = generationAt(timeline, atMs);
  const from =
    generation === undefined
      ? ""
      : `, from generation ${countText(generation.id)}: a snapshot of ${sizeText(generation.rdb_bytes)} and the log after it`;
  const gap = gapAt(timeline, atMs);
  const known =
    gap === undefined
      ? ""
      : ` Nothing came from ${momentText(gap.from_ms)} to ${momentText(gap.to_ms)}, so this is what was known at the beginning of that.`;
  return `${which}: ${when}${from}.${known}`;
}
