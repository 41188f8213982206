import type { Socket } from "bun";
import { type Address, describeAddress } from "../../base/address.ts";
import { limits } from "../../config/limits.ts";
import type { Password } from "../../config/password.ts";
import { ReplicaError } from "../../base/errors.ts";
import { encodeCommand } from "../../resp/encode.ts";
import { parseInfo } from "../../resp/info-text.ts";
import { printable } from "../../base/printable.ts";
import type { StatusTls } from "./status-tls.ts";

/** The fields of INFO by name. */
export type Info = ReadonlyMap<string, string>;

/** Asks a replica's port for INFO, over one connection as long as it lasts. */
export class InfoConnection {
  readonly #address: Address;
  readonly #at: string;
  readonly #password: Password | undefined;
  readonly #tls: StatusTls | undefined;
  /** Identifies the current connection; callbacks of earlier ones are ignored. */
  #epoch = 0;
  #socket: Socket | undefined;
  #received: Buffer = Buffer.alloc(0);
  /** True until AUTH has been answered. */
  #awaitsLogin = false;
  #question: PromiseWithResolvers<Info> | undefined;

  /**
   * Connects at the first question.
   * @param password the port's password, if it has one; read anew for each connection.
   * @param tls undefined: without TLS.
   */
  constructor(address: Address, password: Password | undefined, tls?: StatusTls) {
    this.#tls = tls;
    this.#address = address;
    this.#at = describeAddress(address);
    this.#password = password;
  }

  /**
   * Asks once; one question at a time. After a failure, the next question opens a new connection.
   * @throws ReplicaError CONNECT_FAILED if nothing answers, or the replica is still starting; AUTH_FAILED;
   * PROTOCOL if it is not this kind of replica; the signal's reason once it has aborted.
   */
  async ask(signal: AbortSignal): Promise<Info> {
    signal.throwIfAborted();
    const question = Promise.withResolvers<Info>();
    this.#question = question;
    const seconds = limits.statusTimeoutMs / 1000;
    const hint = this.#tls === undefined ? "" : ": does it speak TLS?";
    const timer = setTimeout(
      () => question.reject(silence(`no answer from ${this.#at} within ${seconds} s${hint}`)),
      limits.statusTimeoutMs,
    );
    const onAbort = (): void => question.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      if (this.#socket === undefined) this.#connect();
      else this.#socket.write(encodeCommand("INFO"));
      return await question.promise;
    } catch (error) {
      // A late answer would be mistaken for the answer to the next question.
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      this.#question = undefined;
    }
  }

  close(): void {
    this.#epoch++;
    this.#socket?.end();
    this.#socket = undefined;
    this.#received = Buffer.alloc(0);
  }

  #connect(): void {
    const epoch = ++this.#epoch;
    const password = this.#password?.read();
    const isOld = (): boolean => epoch !== this.#epoch;
    const nobody = (cause: unknown): void => {
      if (isOld()) return;
      const refused = this.#tls?.refusal(this.#at, cause);
      if (refused !== undefined) return this.#fail(refused);
      this.#fail(silence(`nothing answers at ${this.#at}: is replica running there?`, cause));
    };
    this.#awaitsLogin = password !== undefined;
    // AUTH comes first, and the port answers in order.
    const login = password === undefined ? [] : [encodeCommand("AUTH", password)];
    const question = Buffer.concat([...login, encodeCommand("INFO")]);
    const tls = this.#tls;
    // Not awaited, so that a connect that hangs does not outlast the time limit.
    Bun.connect({
      hostname: this.#address.host,
      port: this.#address.port,
      ...(tls && { tls: tls.options }),
      socket: {
        open: (socket) => {
          if (isOld()) return void socket.end();
          this.#socket = socket;
          if (tls === undefined) socket.write(question);
        },
        // The password is for nobody else.
        handshake: (socket, success, failure) => {
          if (isOld() || tls === undefined) return;
          const refused = tls.verify(this.#at, socket, success, failure);
          if (refused === undefined) socket.write(question);
          else this.#fail(refused);
        },
        data: (_socket, chunk) => {
          if (!isOld()) this.#onData(chunk);
        },
        close: () => {
          if (isOld()) return;
          const why = isTlsAlert(this.#received)
            ? "speaks TLS: give rediss://HOST:PORT with --tls-ca FILE, or its --port-tls-cert FILE"
            : "closed the connection without an answer";
          this.#fail(silence(`${this.#at} ${why}`));
        },
        error: (_socket, cause) => nobody(cause),
      },
    }).catch(nobody);
  }

  #fail(error: unknown): void {
    this.#question?.reject(error);
    this.close();
  }

  #onData(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    try {
      if (this.#received.length > limits.statusReplyBytes) throw notOurs(this.#at);
      if (this.#awaitsLogin && !this.#readLogin()) return;
      const info = this.#readInfo();
      if (info !== undefined) this.#question?.resolve(info);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Whether AUTH has been answered yet. */
  #readLogin(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    // A port without a password rejects AUTH with this error, as Redis does.
    const isNeedless = /^-ERR .*without any password/.test(line.text);
    if (line.text.startsWith("-") && !isNeedless) throw refusal(line.text, this.#at);
    if (line.text !== "+OK" && !isNeedless) throw notOurs(this.#at);
    this.#received = this.#received.subarray(line.end);
    this.#awaitsLogin = false;
    return true;
  }

  #readInfo(): Info | undefined {
    const line = this.#line();
    if (line === undefined) return undefined;
    if (line.text.startsWith("-")) throw refusal(line.text, this.#at);
    if (!/^\$\d{1,8}$/.test(line.text)) throw notOurs(this.#at);
    const end = line.end + Number(line.text.slice(1));
    if (end + 2 > this.#received.length) return undefined;
    const info = parseInfo(this.#received.toString("utf8", line.end, end));
    this.#received = this.#received.subarray(end + 2);
    if (info.has("state") && info.has("ready")) return info;
    throw new ReplicaError("PROTOCOL", {
      message: `what answers at ${this.#at} is not this kind of replica: its INFO has no state`,
    });
  }

  #line(): { readonly text: string; readonly end: number } | undefined {
    const end = this.#received.indexOf("\r\n");
    if (end === -1) return undefined;
    return { text: this.#received.toString("utf8", 0, end), end: end + 2 };
  }
}

/** What a port that speaks TLS alone says to who doesn't ("RFC 8446, 5.1"). */
function isTlsAlert(bytes: Uint8Array): boolean {
  return bytes[0] === 0x15 && bytes[1] === 0x03;
}

function silence(message: string, cause?: unknown): ReplicaError {
  return new ReplicaError("CONNECT_FAILED", { message, cause });
}

function refusal(line: string, at: string): ReplicaError {
  if (line.startsWith("-LOADING")) return silence(`${at} is still starting: ask again`);
  if (line.startsWith("-NOAUTH")) {
    return new ReplicaError("AUTH_FAILED", {
      message: `${at} requires a password: give --requirepass-file FILE`,
    });
  }
  if (line.startsWith("-WRONGPASS") || line.startsWith("-ERR invalid password")) {
    return new ReplicaError("AUTH_FAILED", {
      message: `${at} rejects the password in --requirepass-file`,
    });
  }
  // It may quote the password that was sent.
  const said = line.slice(1, 200).replace(/,? with args beginning with.*$/i, "");
  return new ReplicaError("PROTOCOL", { message: `${at} answered: ${printable(said)}` });
}

function notOurs(at: string): ReplicaError {
  return new ReplicaError("PROTOCOL", {
    message: `what answers at ${at} doesn't speak the protocol of a replica: is it another service?`,
  });
}
