type Child = Node | string;

/** Makes an element. Text becomes a text node, so nothing in it is taken for markup. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The element of this id, which the page has. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no ${id}`);
  return element;
}

/** Shows a text; leaves the page as it is where it says so already, so that a selection stays and nothing is read twice. */
export function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A section with a heading. */
export function section(id: string, title: string, ...children: readonly Child[]): HTMLElement {
  const heading = el("h2", { id: `${id}-title` }, title);
  return el("section", { id, "aria-labelledby": `${id}-title` }, heading, ...children);
}

/** A table; its rows are replaced by `fill`. */
export class Table {
  readonly element: HTMLElement;
  readonly #body = el("tbody");
  #shown = "";

  constructor(caption: string, head: readonly string[]) {
    const cells = head.map((word) => el("th", { scope: "col" }, word));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...cells)), this.#body);
    // It scrolls by itself where it is too wide, also by keyboard.
    this.element = el(
      "div",
      { class: "wide", tabindex: "0", role: "group", "aria-label": caption },
      table,
    );
  }

  /** Shows these rows; the first cell of each names it. @param tones the tone of each row, if any. */
  fill(rows: readonly (readonly Child[])[], tones: readonly (string | undefined)[] = []): void {
    const words = rows.map((row) =>
      row.map((cell) => (typeof cell === "string" ? cell : cell.textContent)),
    );
    const shown = JSON.stringify([words, tones]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const lines = rows.map((row, at) => {
      const [first = "", ...rest] = row;
      const tone = tones[at];
      return el(
        "tr",
        tone === undefined ? {} : { "data-tone": tone },
        el("th", { scope: "row" }, first),
        ...rest.map((cell) => el("td", {}, cell)),
      );
    });
    this.#body.replaceChildren(...lines);
  }
}
