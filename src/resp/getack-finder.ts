import { encodeCommand } from "./encode.ts";
import { Needle } from "./needle.ts";

// A primary sends these bytes and no others ("Redis, replication.c": replicationCron).
const GETACK = new Needle(encodeCommand("REPLCONF", "GETACK", "*"));

/**
 * Finds `REPLCONF GETACK *` in the stream without parsing it. A chance match inside a value costs one
 * needless ACK.
 */
export class GetackFinder {
  /** How many of GETACK's first bytes the stream ends with. */
  #matchLength = 0;

  /**
   * Searches the stream's next chunk.
   * @returns how many bytes of the chunk lead up to and include the last GETACK that ends in it; 0 for none.
   */
  find(chunk: Uint8Array): number {
    const length = GETACK.bytes.length;
    let foundEnd = 0;
    let matchLength = this.#matchLength;
    let at = 0;
    while (matchLength > at && at < chunk.length) {
      matchLength = GETACK.step(matchLength, chunk[at++]!);
      if (matchLength === length) {
        foundEnd = at;
        matchLength = 0;
      }
    }
    if (matchLength > at) {
      this.#matchLength = matchLength;
      return 0;
    }
    let from = at - matchLength;
    for (
      let index = GETACK.indexIn(chunk, from);
      index !== -1;
      index = GETACK.indexIn(chunk, from)
    ) {
      from = foundEnd = index + length;
    }
    this.#matchLength = GETACK.matchLengthAtEnd(chunk, from);
    return foundEnd;
  }
}
