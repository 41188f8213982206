import type { StatusDocument } from "./document.ts";
import { byId, el, say, section, Table } from "./dom.ts";
import { ageText, countText, momentText, sizeText } from "./words.ts";

/** How many events are shown at first. */
const FEW_EVENTS = 8;

/** A tone as a sign, since colour alone tells nothing to many. */
const SIGNS = { good: "●", busy: "◐", idle: "○", bad: "▲" } as const;

/** The state in words, at the top. */
export function showHeadline(shown: StatusDocument): void {
  const { headline, ready, not_ready_reason, name, kind } = shown;
  byId("headline").dataset["tone"] = headline.tone;
  say(byId("state"), headline.state);
  say(byId("text"), headline.text);
  const readiness = byId("ready");
  readiness.dataset["ready"] = ready ? "yes" : "no";
  say(readiness, ready ? "Ready" : `Not ready: ${not_ready_reason ?? ""}`);
  const of = { replica: "of", shard: "of shard", cluster: "of the cluster" }[kind];
  say(
    byId("about"),
    `${of} ${name} · version ${shown.version} · up for ${ageText(shown.uptime_seconds * 1000)}`,
  );
  document.title = `replica: ${headline.state}`;
}

/** The shards of a cluster; each leads to a page of its own. */
export class ShardsPanel {
  readonly element: HTMLElement;
  readonly #table = new Table("Shards", [
    "Shard",
    "State",
    "Ready",
    "Slots",
    "Primary",
    "Durable offset",
    "Restorable up to",
  ]);

  constructor() {
    this.element = section("shards", "Shards", this.#table.element);
  }

  show({ shards, now_ms }: StatusDocument): void {
    this.element.hidden = shards.length === 0;
    const rows = shards.map((one) => [
      el("a", { href: `/?shard=${encodeURIComponent(one.shard)}` }, one.shard),
      `${SIGNS[one.headline.tone]} ${one.headline.state}`,
      one.ready ? "yes" : `no: ${one.not_ready_reason ?? ""}`,
      one.slots,
      one.primary ?? "none",
      one.durable_offset === null ? "none" : countText(one.durable_offset),
      one.newest_ms === null ? "nothing yet" : `${ageText(now_ms - one.newest_ms)} ago`,
    ]);
    this.#table.fill(
      rows,
      shards.map(({ headline }) => headline.tone),
    );
  }
}

/** The replicas that are fed from here. */
export class DownstreamsPanel {
  readonly element: HTMLElement;
  readonly #count = el("p");
  readonly #table = new Table("Downstreams", [
    "Address",
    "State",
    "Acknowledged",
    "Behind by",
    "Heard",
  ]);

  constructor() {
    this.element = section("downstreams", "Downstreams", this.#count, this.#table.element);
  }

  show({ downstreams, downstream_count: count }: StatusDocument): void {
    const more = count - downstreams.length;
    say(
      this.#count,
      count === 0
        ? "No replica is fed from here."
        : `${count} attached${more === 0 ? "" : `; ${more} of them are not shown`}.`,
    );
    this.#table.element.hidden = count === 0;
    const rows = downstreams.map((one) => [
      one.address,
      one.state,
      one.acked_offset === 0 ? "nothing yet" : `offset ${countText(one.acked_offset)}`,
      one.behind_bytes === 0 ? "nothing" : sizeText(one.behind_bytes),
      `${one.lag_seconds} s ago`,
    ]);
    this.#table.fill(rows);
  }
}

/** What happened last. */
export class EventsPanel {
  readonly element: HTMLElement;
  readonly #none = el("p", {}, "Nothing has happened yet.");
  readonly #table = new Table("Last events", ["When", "What", "More"]);
  readonly #more = el("button", { type: "button" }, "Show all");
  #isAll = false;
  #shown: StatusDocument | undefined;

  constructor() {
    this.element = section("events", "Last events", this.#none, this.#table.element, this.#more);
    this.#more.addEventListener("click", () => {
      this.#isAll = !this.#isAll;
      if (this.#shown !== undefined) this.show(this.#shown);
    });
  }

  show(shown: StatusDocument): void {
    this.#shown = shown;
    const { events } = shown;
    this.#none.hidden = events.length > 0;
    this.#table.element.hidden = events.length === 0;
    this.#more.hidden = events.length <= FEW_EVENTS;
    say(this.#more, this.#isAll ? "Show fewer" : `Show all ${events.length}`);
    const some = this.#isAll ? events : events.slice(0, FEW_EVENTS);
    this.#table.fill(
      some.map(({ at_ms, kind, text }) => [momentText(at_ms), kind.replaceAll("-", " "), text]),
    );
  }
}

/** All figures, by the names that INFO has for them. */
export class FiguresPanel {
  readonly #table = new Table("All figures", ["Name", "Value"]);
  readonly #details: HTMLDetailsElement;

  constructor(details: HTMLDetailsElement) {
    this.#details = details;
    details.open = false;
    const json = el("a", { href: `/status.json${location.search}` }, "as JSON");
    details.replaceChildren(
      el("summary", {}, "All figures"),
      el("p", {}, json),
      this.#table.element,
    );
  }

  show({ status }: StatusDocument): void {
    if (!this.#details.open && this.#table.element.textContent !== "NameValue") return;
    this.#table.fill(Object.entries(status).map(([name, value]) => [name, String(value)]));
  }
}
