import type { Direction, Effect, Fault, Plan } from "./fault-plan.ts";
import { SocketWriter } from "./socket-writer.ts";

/** Bytes that may wait for the receiver before the sender is paused. */
const MAX_QUEUED_BYTES = 256 * 1024;
/** The span over which a limited rate is kept. */
const RATE_SPAN_MS = 10;
/** The pause between two bytes that are to be separate packets: shorter than any timer. */
const BETWEEN_BYTES_MS = 0.1;

interface Ends {
  /** Resets both ends of the connection. */
  reset(): void;
}

/** The socket at one end of a connection. */
interface ProxySocket {
  write(data: Uint8Array): number;
  shutdown(halfClose?: boolean): void;
  terminate(): void;
  pause(): void;
  resume(): void;
  setNoDelay(noDelay?: boolean): boolean;
}

/** One direction of a connection: passes bytes from one socket to the other, as its faults allow. */
class FaultyPipe {
  readonly #faults: Fault[];
  readonly #ends: Ends;
  readonly #queue: { bytes: Uint8Array; readonly atMs: number }[] = [];
  #from: ProxySocket | undefined;
  #to: ProxySocket | undefined;
  #writer: SocketWriter | undefined;
  #queuedBytes = 0;
  #passedBytes = 0;
  #sourceEnded = false;
  /** Drops every later byte. */
  #isShut = false;
  #isHole = false;
  #isRunning = false;
  /** Something has happened that the current step may not have seen. */
  #isDue = false;

  constructor(faults: Fault[], ends: Ends) {
    this.#faults = faults;
    this.#ends = ends;
  }

  get passedBytes(): number {
    return this.#passedBytes;
  }

  /** True once neither bytes nor FIN pass any more. */
  get isHole(): boolean {
    return this.#isHole;
  }

  from(socket: ProxySocket): void {
    this.#from = socket;
  }

  to(socket: ProxySocket): void {
    this.#to = socket;
    this.#writer = new SocketWriter(socket);
    socket.setNoDelay(true);
    void this.#run();
  }

  /** Adds a fault that begins with the next byte and takes precedence over all others. */
  inject(fault: Fault): void {
    this.#faults.unshift(fault);
    void this.#run();
  }

  push(bytes: Uint8Array): void {
    if (this.#isShut) return;
    this.#queue.push({ bytes, atMs: performance.now() });
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > MAX_QUEUED_BYTES) this.#from?.pause();
    void this.#run();
  }

  drain(): void {
    this.#writer?.drain();
  }

  /** The sender has sent FIN. */
  end(): void {
    this.#sourceEnded = true;
    void this.#run();
  }

  /** The sender's socket is closed: after FIN, or by a reset. */
  closed(): void {
    if (this.#sourceEnded) return;
    this.#sourceEnded = true;
    if (!this.#isHole) this.#ends.reset();
  }

  shut(): void {
    this.#isShut = true;
    this.#writer?.close(new Error("the connection was reset"));
  }

  async #run(): Promise<void> {
    this.#isDue = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      while (this.#isDue && !this.#isShut && this.#writer !== undefined) {
        this.#isDue = false;
        if (await this.#step(this.#writer)) this.#isDue = true;
      }
    } catch {
      // The receiver is gone; its `close` event follows.
    } finally {
      this.#isRunning = false;
    }
  }

  /** @returns false if there is nothing to do until the next event. */
  async #step(writer: SocketWriter): Promise<boolean> {
    const fault = this.#faults.find((one) => this.#holds(one));
    const effect = fault?.effect;
    if (effect?.kind === "reset") {
      this.#ends.reset();
      return false;
    }
    if (effect?.kind === "half-close") {
      this.#isShut = true;
      this.#to?.shutdown();
      this.#from?.resume();
      return false;
    }
    if (effect?.kind === "black-hole") {
      this.#isHole = true;
      // The queue is never sent, and soon the sender is paused too.
      return false;
    }
    const head = this.#queue[0];
    if (head === undefined) {
      if (!this.#sourceEnded) return false;
      this.#isShut = true;
      this.#to?.shutdown();
      return false;
    }
    const waitMs = effect?.kind === "delay" ? head.atMs + effect.ms - performance.now() : 0;
    if (waitMs > 0) {
      await Bun.sleep(waitMs);
      // Another fault may apply by now.
      return true;
    }
    const bytes = head.bytes.subarray(0, Math.min(this.#untilNextFault(), pieceBytes(effect)));
    if (bytes.length === head.bytes.length) this.#queue.shift();
    else head.bytes = head.bytes.subarray(bytes.length);
    await writer.write(bytes);
    this.#passedBytes += bytes.length;
    this.#queuedBytes -= bytes.length;
    if (this.#queuedBytes <= MAX_QUEUED_BYTES) this.#from?.resume();
    if (effect?.kind === "rate") await Bun.sleep(RATE_SPAN_MS);
    if (effect?.kind === "single-bytes") await pause(BETWEEN_BYTES_MS);
    return true;
  }

  #holds({ afterBytes, lastsBytes = Infinity }: Fault): boolean {
    return this.#passedBytes >= afterBytes && this.#passedBytes < afterBytes + lastsBytes;
  }

  #untilNextFault(): number {
    const ahead = this.#faults
      .flatMap(({ afterBytes, lastsBytes = Infinity }) => [afterBytes, afterBytes + lastsBytes])
      .filter((at) => at > this.#passedBytes);
    return Math.min(...ahead) - this.#passedBytes;
  }
}

async function pause(ms: number): Promise<void> {
  const beganMs = performance.now();
  do await new Promise((resolve) => setImmediate(resolve));
  while (performance.now() - beganMs < ms);
}

function pieceBytes(effect: Effect | undefined): number {
  if (effect?.kind === "single-bytes") return 1;
  if (effect?.kind !== "rate") return Infinity;
  return Math.max(1, Math.round((effect.bytesPerSecond * RATE_SPAN_MS) / 1000));
}

/** A replica's connection to the proxy, and the proxy's connection to the primary for it. */
export class FaultyConnection {
  readonly fromReplica: FaultyPipe;
  readonly fromPrimary: FaultyPipe;
  readonly #replica: ProxySocket;
  #primary: ProxySocket | undefined;
  #isReset = false;

  constructor(plan: Plan, replica: ProxySocket) {
    const of = (direction: Direction) => plan.filter((fault) => fault.direction === direction);
    this.#replica = replica;
    this.fromReplica = new FaultyPipe(of("to-primary"), this);
    this.fromPrimary = new FaultyPipe(of("to-replica"), this);
  }

  get passed(): Record<Direction, number> {
    return {
      "to-replica": this.fromPrimary.passedBytes,
      "to-primary": this.fromReplica.passedBytes,
    };
  }

  /** Begins: connects to the primary, and resets the connection if that fails. */
  connect(hostname: string, port: number): void {
    this.fromReplica.from(this.#replica);
    // A fault may reset the connection here.
    this.fromPrimary.to(this.#replica);
    if (this.#isReset) return;
    const socket: Bun.SocketHandler = {
      open: (primary) => {
        if (this.#isReset) {
          primary.terminate();
          return;
        }
        this.#primary = primary;
        this.fromPrimary.from(primary);
        this.fromReplica.to(primary);
      },
      data: (_primary, bytes) => this.fromPrimary.push(bytes),
      drain: () => this.fromReplica.drain(),
      end: () => this.fromPrimary.end(),
      close: () => this.fromPrimary.closed(),
      error: () => undefined,
    };
    Bun.connect({ hostname, port, allowHalfOpen: true, socket }).catch(() => this.reset());
  }

  /** Adds a fault that begins with the next byte of its direction. */
  inject(fault: Omit<Fault, "afterBytes">): void {
    const pipe = fault.direction === "to-primary" ? this.fromReplica : this.fromPrimary;
    pipe.inject({ ...fault, afterBytes: pipe.passedBytes });
  }

  reset(): void {
    this.#isReset = true;
    this.fromReplica.shut();
    this.fromPrimary.shut();
    this.#replica.terminate();
    this.#primary?.terminate();
  }
}
