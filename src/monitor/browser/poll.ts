import type { StatusDocument } from "./document.ts";

/** While all is well. */
const EVERY_MS = 2_000;
/** The longest pause between two questions while nothing answers. */
const MOST_MS = 30_000;
/** How long an answer may take. */
const ANSWER_MS = 10_000;

export interface PollOptions {
  /** Where to ask, also for which samples. */
  readonly url: () => string;
  readonly onDocument: (document: StatusDocument) => void;
  /** No answer came, and why; the next question is asked in so many milliseconds. */
  readonly onBroken: (why: string, nextMs: number) => void;
}

/** Asks for the status again and again: less often while nothing answers, not at all while nobody looks at the page. */
export class Poll {
  readonly #options: PollOptions;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isAsking = false;

  constructor(options: PollOptions) {
    this.#options = options;
    document.addEventListener("visibilitychange", () => this.#lookedAt());
    addEventListener("online", () => this.#lookedAt());
  }

  /** Asks now, and goes on. */
  async ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    clearTimeout(this.#timer);
    let nextMs = EVERY_MS;
    try {
      this.#options.onDocument(await answerFrom(this.#options.url()));
      this.#failures = 0;
    } catch (error) {
      nextMs = Math.min(MOST_MS, EVERY_MS * 2 ** this.#failures++);
      this.#options.onBroken(error instanceof Error ? error.message : String(error), nextMs);
    }
    this.#isAsking = false;
    if (document.visibilityState === "hidden") return;
    this.#timer = setTimeout(() => void this.ask(), nextMs);
  }

  #lookedAt(): void {
    if (document.visibilityState === "visible") void this.ask();
  }
}

async function answerFrom(url: string): Promise<StatusDocument> {
  const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  if (!response.ok) throw new Error(`it answers ${response.status}: ${await response.text()}`);
  return (await response.json()) as StatusDocument;
}
