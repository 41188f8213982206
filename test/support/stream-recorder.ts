import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Offset } from "../../src/base/history.ts";
import { Downstream } from "./relaying.ts";
import type { RealServer } from "./servers.ts";
import { until } from "./wait.ts";

/** Records a primary's stream from a snapshot on, as a replica of its own. */
export class StreamRecorder implements AsyncDisposable {
  readonly baseOffset: Offset;
  readonly #link: Downstream;
  readonly #rdb: Buffer;
  /** Where the stream begins in what came. */
  readonly #begin: number;

  private constructor(link: Downstream, baseOffset: Offset, rdb: Buffer, begin: number) {
    this.#link = link;
    this.baseOffset = baseOffset;
    this.#rdb = rdb;
    this.#begin = begin;
  }

  static async start(primary: RealServer): Promise<StreamRecorder> {
    const link = await Downstream.connect(primary.port);
    await link.ask("REPLCONF", "capa", "psync2");
    const granted = await link.ask("PSYNC", "?", "-1");
    const offset = Number(/^\+FULLRESYNC \S+ (\d+)$/.exec(granted)?.[1]);
    if (!(offset >= 0)) throw new Error(`no full resync: ${granted}`);
    // Newlines keep the link alive until the snapshot is ready.
    const find = () =>
      /\+FULLRESYNC[^\r]*\r\n\n*\$(\d+)\r\n/.exec(link.cameBytes.toString("latin1", 0, 4096));
    const header = await until(find, { what: "the recorder's snapshot" });
    const from = header.index + header[0].length;
    const begin = from + Number(header[1]);
    await until(() => link.cameLength >= begin, { what: "all of the recorder's snapshot" });
    link.keepAlive();
    return new StreamRecorder(link, offset, link.cameBytes.subarray(from, begin), begin);
  }

  /** The stream after offset `from` up to and including offset `to`. */
  async stream(from: Offset, to: Offset): Promise<Buffer> {
    if (from < this.baseOffset) throw new Error(`the record begins at ${this.baseOffset}`);
    const end = this.#begin + to - this.baseOffset;
    await until(() => this.#link.cameLength >= end, { what: `the stream up to ${to}` });
    return this.#link.cameBytes.subarray(this.#begin + from - this.baseOffset, end);
  }

  /** Writes what a stock server of that moment starts from: an append-only directory. */
  async writeAsOf(offset: Offset, path: string): Promise<void> {
    mkdirSync(path, { recursive: true });
    const [base, log] = ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"];
    writeFileSync(join(path, base), this.#rdb);
    writeFileSync(join(path, log), await this.stream(this.baseOffset, offset));
    const manifest = `file ${base} seq 1 type b\nfile ${log} seq 1 type i\n`;
    writeFileSync(join(path, "appendonly.aof.manifest"), manifest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link[Symbol.asyncDispose]();
  }
}
