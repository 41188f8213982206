import { ReplicaError } from "../../base/errors.ts";
import type { PrimaryTarget } from "../../config/primary-url.ts";
import type { Parcel } from "./parcel.ts";
import type { Routes, Way } from "./routes.ts";
import type { TargetLink } from "./target-link.ts";

/** One server, or whoever is the primary of a master that Sentinels watch: every key goes there. */
export class SingleRoute implements Routes {
  readonly #locate: (signal: AbortSignal, last: PrimaryTarget) => Promise<PrimaryTarget>;
  readonly #connect: (target: PrimaryTarget) => Promise<TargetLink>;
  #link: TargetLink;

  /**
   * @param link the first connection, open.
   * @param locate who is it now? Asked before each connect.
   */
  constructor(
    link: TargetLink,
    locate: (signal: AbortSignal, last: PrimaryTarget) => Promise<PrimaryTarget>,
    connect: (target: PrimaryTarget) => Promise<TargetLink>,
  ) {
    this.#link = link;
    this.#locate = locate;
    this.#connect = connect;
  }

  /** The connection, opened anew where it is broken. @throws ReplicaError where it can't be. */
  async current(signal: AbortSignal): Promise<TargetLink> {
    if (this.#link.isBroken) {
      this.#link = await this.#connect(await this.#locate(signal, this.#link.target));
    }
    return this.#link;
  }

  async ways(parcels: readonly Parcel[], signal: AbortSignal): Promise<readonly Way[]> {
    try {
      return [{ parcels, link: await this.current(signal) }];
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      return [{ parcels, broken: error }];
    }
  }

  /** Only a cluster's node says so, and those have routes of their own. */
  moved(_slot: number, _address: string, link: TargetLink): void {
    link.close();
  }

  asked(): string | undefined {
    return undefined;
  }

  doubt(link: TargetLink | undefined): void {
    link?.close();
  }

  close(): void {
    this.#link.close();
  }
}
