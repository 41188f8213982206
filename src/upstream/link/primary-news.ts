import { logger } from "../../base/logger.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import type { Reply } from "../../resp/reply-reader.ts";
import type { PrimaryFacts } from "./primary-facts.ts";
import { describeCluster, describeRefusedWrites } from "./supply-words.ts";

/** What of a primary is news, and to whom it would be shown. */
export interface NewsOptions {
  /** Whether a primary that is a node of a cluster is news. */
  readonly tellsOfCluster: boolean;
  /** Where this replica serves: its port, and the one that it announces. */
  readonly servedPorts: readonly number[];
}

/** Asks the primary; see `SideLink.ask`. */
type Ask = (...commands: readonly (readonly string[])[]) => Promise<readonly Reply[]>;

/** Tells what a primary says of itself that its operator should know: each thing once, until something else is said. */
export class PrimaryNews {
  readonly #options: NewsOptions;
  /** What was said last of its being a node of a cluster. */
  #ofCluster = "";
  /** What was said last of its refusing writes; empty while it takes them. */
  #ofWrites = "";

  constructor(options: NewsOptions) {
    this.#options = options;
  }

  /** Takes what the primary said a moment ago. */
  hear(facts: PrimaryFacts): void {
    const said = describeRefusedWrites(facts, this.#options.servedPorts);
    if (said !== undefined && said.why !== this.#ofWrites) logger.warn(said.text);
    this.#ofWrites = said?.why ?? "";
  }

  /** Whoever names one node of a cluster follows one shard of it. Call once for each link. */
  async tellOfCluster(
    target: PrimaryTarget,
    { isClusterNode }: PrimaryFacts,
    ask: Ask,
  ): Promise<void> {
    if (!isClusterNode || !this.#options.tellsOfCluster) return;
    const [reply] = await ask(["CLUSTER", "INFO"]).catch(() => []);
    const text = describeCluster(target, reply?.isError === false ? reply.text : "");
    if (text !== this.#ofCluster) logger.info(text);
    this.#ofCluster = text;
  }
}
