import { FFIType, ptr } from "bun:ffi";
import { libc } from "../../src/base/libc.ts";
import { unixAddress } from "../../src/monitor/unix-datagrams.ts";
import { until } from "./wait.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const MAX_MESSAGE_BYTES = 4096;

const { i32, i64_fast: i64, ptr: pointer, u32, u64 } = FFIType;

function calls() {
  return libc({
    socket: { args: [i32, i32, i32], returns: i32 },
    bind: { args: [i32, pointer, u32], returns: i32 },
    recv: { args: [i32, pointer, u64, i32], returns: i64 },
    close: { args: [i32], returns: i32 },
  }).symbols;
}

/** A service manager's end of NOTIFY_SOCKET: the fields received, in order. */
export class NotifySocket implements Disposable {
  readonly #calls = calls();
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(MAX_MESSAGE_BYTES);
  /** In the form `READY=1`. */
  readonly #fields: string[] = [];

  /** @param path of the socket, or `@` and its abstract name. */
  constructor(path: string) {
    const address = unixAddress(path);
    if (address === undefined) throw new Error(`${path} names no socket`);
    this.#fd = this.#calls.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
    if (this.#calls.bind(this.#fd, ptr(address), address.length) !== 0)
      throw new Error(`can't bind ${path}`);
  }

  /** Reads new datagrams; returns all fields so far. */
  fields(): readonly string[] {
    for (;;) {
      const length = Number(
        this.#calls.recv(this.#fd, ptr(this.#buffer), MAX_MESSAGE_BYTES, MSG_DONTWAIT),
      );
      if (length < 0) return this.#fields;
      const message = this.#buffer.toString("utf8", 0, length);
      this.#fields.push(...message.split("\n").filter((field) => field !== ""));
    }
  }

  /** Waits for a field that matches. */
  async waitFor(pattern: RegExp): Promise<string> {
    return await until(() => this.fields().find((field) => pattern.test(field)), {
      what: `the service manager to receive ${pattern}`,
    }).catch((error: unknown) => {
      throw new Error(`received: ${this.#fields.join(" | ")}`, { cause: error });
    });
  }

  [Symbol.dispose](): void {
    this.#calls.close(this.#fd);
  }
}
