import { PIECE_BYTES } from "../format/objects.ts";
import { ReplicaError } from "../../base/errors.ts";
import {
  GenerationWriter,
  type GenerationWriterParts,
  type LackedObject,
} from "./generation-writer.ts";

/** What is wrong with the generation or its folder, and not with the store. */
const ITS_OWN = new Set(["ARCHIVE_CONFLICT", "DIRECTORY_DAMAGED", "DISK_FAILED", "DISK_FULL"]);

/**
 * Archives a base while it comes in, piece by piece. Whatever goes wrong with it costs nothing: once it is whole, it is
 * archived all the same; if it never is, a folder without base.json stays, which no reader sees.
 */
export class EarlyBase {
  readonly #parts: GenerationWriterParts;
  #writer: GenerationWriter | undefined;
  #skipped: number | undefined;

  constructor(parts: GenerationWriterParts) {
    this.#parts = parts;
  }

  /** Whether more may come soon. */
  get isArriving(): boolean {
    const arriving = this.#parts.source.arriving();
    return arriving !== undefined && arriving.id !== this.#skipped;
  }

  /** Who makes the objects. */
  get writer(): GenerationWriter | undefined {
    return this.#writer;
  }

  /**
   * Makes the next object of the base that is coming in; undefined where none is durable yet.
   * @throws ReplicaError of the store; the reason of `signal`.
   */
  async next(signal: AbortSignal): Promise<LackedObject | undefined> {
    const generation = this.#parts.source.arriving();
    if (generation === undefined || generation.id === this.#skipped) return undefined;
    // By then its own head is there.
    if (generation.rdbBytes < PIECE_BYTES) return undefined;
    try {
      if (this.#writer?.id !== generation.id)
        this.#writer = await GenerationWriter.begin(this.#parts, generation, signal);
      return await this.#writer.next(generation, false, signal);
    } catch (error) {
      if (!(error instanceof ReplicaError && ITS_OWN.has(error.code))) throw error;
      // Most often it was given up, and its folder with it.
      this.skip(generation.id);
      return undefined;
    }
  }

  /** What the archive holds must be learned anew. */
  forget(): void {
    this.#writer = undefined;
  }

  /** Leaves a generation alone until it is whole. */
  skip(id: number): void {
    this.#skipped = id;
    this.#writer = undefined;
  }

  /** Hands over who has begun with a generation that is whole now. */
  take(id: number): GenerationWriter | undefined {
    const writer = this.#writer;
    if (writer?.id !== id) return undefined;
    this.#writer = undefined;
    return writer;
  }
}
