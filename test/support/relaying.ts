import { expect } from "bun:test";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { realDisk, type Disk } from "../../src/store/disk/disk.ts";
import { REPLID, smallRdb } from "../integration/bad-input-rig.ts";
import type { FakePeer } from "./fake-peer.ts";
import { bulkPayload, fakePrimary, type Script, standardHandshake } from "./fake-primary.ts";
import { follow } from "./following.ts";
import { encodeCommand } from "./resp.ts";
import { tempDir } from "./temp.ts";
import { until } from "./wait.ts";

const RDB = smallRdb("a value");

/** A scripted downstream, which keeps everything it receives. */
export class Downstream implements AsyncDisposable {
  readonly #chunks: Uint8Array[] = [];
  readonly #socket: Bun.Socket;
  #bytes = Buffer.alloc(0);
  isClosed = false;
  #beat: ReturnType<typeof setInterval> | undefined;

  private constructor(socket: Bun.Socket) {
    this.#socket = socket;
  }

  /** @param tls as Bun.connect takes it; undefined: without TLS. */
  static async connect(port: number, tls?: Bun.TLSOptions): Promise<Downstream> {
    let downstream: Downstream | undefined;
    const early: Uint8Array[] = [];
    const secured = Promise.withResolvers<void>();
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      ...(tls && { tls }),
      socket: {
        handshake: () => secured.resolve(),
        data: (_socket, bytes) => {
          (downstream === undefined ? early : downstream.#chunks).push(bytes);
        },
        close: () => {
          if (downstream !== undefined) downstream.isClosed = true;
        },
        error: () => undefined,
      },
    });
    // What is written before that is lost.
    if (tls !== undefined) await secured.promise;
    downstream = new Downstream(socket);
    downstream.#chunks.push(...early);
    return downstream;
  }

  /** Everything received so far, as latin1; for short texts. */
  get came(): string {
    return this.cameBytes.toString("latin1");
  }

  /** Everything received so far. */
  get cameBytes(): Buffer {
    if (this.#chunks.length > 0) {
      this.#bytes = Buffer.concat([this.#bytes, ...this.#chunks.splice(0)]);
    }
    return this.#bytes;
  }

  /** Number of bytes received so far. */
  get cameLength(): number {
    return this.#chunks.reduce((sum, { length }) => sum + length, this.#bytes.length);
  }

  say(...words: (string | number)[]): void {
    this.#socket.write(encodeCommand(words));
  }

  write(bytes: string): void {
    this.#socket.write(bytes);
  }

  /** Sends a command and returns its one-line reply. */
  async ask(...words: (string | number)[]): Promise<string> {
    const from = this.came.length;
    this.say(...words);
    await until(() => this.came.indexOf("\r\n", from) !== -1 || this.isClosed, {
      what: `a reply to ${words.join(" ")}`,
    });
    return this.came.slice(from).split("\r\n", 1)[0]!;
  }

  /** Sends an ACK every 100 ms from now on, so that it isn't dropped for its silence. */
  keepAlive(): void {
    this.#beat = setInterval(() => this.say("REPLCONF", "ACK", 0), 100);
  }

  /** Waits until it has received exactly this text. */
  async has(text: string): Promise<void> {
    await until(() => this.came.length >= text.length || this.isClosed, {
      what: `${text.length} bytes`,
    });
    expect(this.came).toBe(text);
  }

  async closed(): Promise<void> {
    await until(() => this.isClosed, { what: "its link to be closed" });
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  reset(): void {
    this.#socket.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#beat);
    this.#socket.terminate();
  }
}

/** Grants a full resync with `rdb` at this offset, then keeps the link open. */
export async function fullSync(peer: FakePeer, rdb: Uint8Array = RDB, offset = 100): Promise<void> {
  await standardHandshake(peer, { replid: REPLID, offset });
  await peer.send(bulkPayload(rdb));
}

/** Starts a relay behind a scripted primary: the n-th link plays the n-th script, by default one full resync. */
export async function relaying(
  more: Record<string, string> = {},
  scripts: readonly Script[] = [fullSync],
  disk: Disk = realDisk,
  clock: Clock = realClock,
) {
  const dir = tempDir("relay");
  const primary = fakePrimary({ connections: scripts });
  const following = follow(primary.url, disk, dir, more, undefined, clock);
  await following.connected();
  const { port, replica } = following;
  const streamOn = async (index: number, text: string) => {
    const before = replica.log!.writtenOffset;
    await primary.peers.at(index)!.send(text);
    await until(() => replica.log!.writtenOffset === before + text.length, { what: "the write" });
  };
  return {
    ...following,
    primary,
    connect: (tls?: Bun.TLSOptions) => Downstream.connect(port, tls),
    /** Sends stream bytes over the primary's newest link and waits until they are written. */
    stream: (text: string) => streamOn(-1, text),
    /** The same over the n-th link. */
    streamOn,
    [Symbol.asyncDispose]: async () => {
      await following[Symbol.asyncDispose]();
      await primary.stop();
      dir.remove();
    },
  };
}
