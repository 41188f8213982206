import { ReplicaError } from "../base/errors.ts";
import { parseReplicationId, type ReplicationId } from "../base/history.ts";
import { parseInfo } from "../resp/info-text.ts";
import { printableBytes } from "../base/printable.ts";
import type { State } from "./state.ts";

/** INFO has some KiB; a peer that sends more is no server. */
const MAX_INFO_BYTES = 1024 * 1024;
const MINUS = 0x2d;
const LINE_END_BYTES = 2;

/** The reply to INFO, line by line: a bulk string, or an error where the login may not ask. */
export class InfoReply {
  readonly #lines: string[] = [];
  /** Bytes of the text that are still to come; undefined before its length. */
  #left: number | undefined;

  /**
   * Takes the next line.
   * @returns undefined while more is to come; then the text, undefined where the primary doesn't tell.
   * @throws ReplicaError PROTOCOL for a reply that is no bulk string of lines.
   */
  push(line: Uint8Array): { readonly text: string | undefined } | undefined {
    if (this.#left === undefined) return this.#begin(line);
    const isEnd = this.#left === 0 && line.length === 0;
    if (!isEnd) {
      this.#lines.push(Buffer.from(line).toString("latin1"));
      this.#left -= line.length + LINE_END_BYTES;
    }
    if (this.#left < -LINE_END_BYTES || this.#left === -1) throw malformed(line);
    return isEnd || this.#left < 0 ? { text: this.#lines.join("\n") } : undefined;
  }

  #begin(line: Uint8Array): { readonly text: undefined } | undefined {
    const head = printableBytes(line);
    // Some answer what they don't know with a status.
    if (line[0] === MINUS || head === "$-1" || head.startsWith("+")) return { text: undefined };
    const [, length] = /^\$(\d{1,9})$/.exec(head) ?? [];
    if (length === undefined || Number(length) > MAX_INFO_BYTES) throw malformed(line);
    this.#left = Number(length);
    return undefined;
  }
}

/** The id of the history that a server says it has; undefined where it names none. */
export function readReplid(infoText: string): ReplicationId | undefined {
  const id = parseInfo(infoText).get("master_replid") ?? "";
  return /^[0-9a-z]{40}$/i.test(id) ? parseReplicationId(id) : undefined;
}

function malformed(line: Uint8Array): ReplicaError {
  return new ReplicaError("PROTOCOL", {
    message: `the primary answers INFO with "${printableBytes(line)}"`,
  });
}

/** Whether an attempt broke off because INFO, which helps and isn't needed, was not answered as servers do. */
export function failedOnInfo({ code }: ReplicaError, from: State): boolean {
  const isOnInfo = from.at === "receive-version" && from.asked === "info";
  return isOnInfo && (code === "PROTOCOL" || code === "TIMED_OUT");
}
