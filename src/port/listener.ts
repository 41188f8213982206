import { FFIType } from "bun:ffi";
import { closeSync } from "node:fs";
import type { Socket, SocketHandler } from "bun";
import { describeAddress } from "../base/address.ts";
import { libc } from "../base/libc.ts";
import { listenFailure } from "../base/listen-failure.ts";
import { logger } from "../base/logger.ts";
import type { ServedTls } from "../config/served-tls.ts";
import type { Settings } from "../config/settings.ts";
import type { Alarms } from "./clients/alarms.ts";
import type { Client } from "./clients/client.ts";
import { Handshakes } from "./clients/handshakes.ts";

export type PortSocket = Socket<Client>;

/** What the port does with its clients' sockets. `open` is called once TLS is established, where it is spoken. */
export type PortEvents = Required<
  Pick<SocketHandler<Client>, "open" | "data" | "drain" | "close" | "timeout" | "error">
>;

/** The listening socket of a port: plain, or TLS alone, whose certificate may be renewed while it listens. */
export class Listener {
  readonly port: number;
  readonly #events: PortEvents;
  readonly #tls: ServedTls | undefined;
  readonly #handshakes: Handshakes;
  readonly #endRenewals: () => void;
  #listener: Bun.TCPSocketListener<Client>;

  /** @throws ReplicaError PORT_IN_USE, LISTEN_FAILED; USAGE for a certificate that can't be used. */
  constructor(
    { bind, port, portTls }: Pick<Settings, "bind" | "port" | "portTls">,
    events: PortEvents,
    alarms: Alarms,
  ) {
    this.#events = events;
    this.#tls = portTls;
    this.#handshakes = new Handshakes(alarms, portTls?.asksClients === true);
    const socket = this.#handlers();
    const tls = portTls && { tls: portTls.options };
    try {
      this.#listener = Bun.listen<Client>({ hostname: bind, port, ...tls, socket });
    } catch (cause) {
      const wanted = { what: "listen", addressFlag: "--bind", portFlag: "--port" } as const;
      throw listenFailure({ host: bind, port }, wanted, cause);
    }
    this.port = this.#listener.port;
    this.#endRenewals = portTls?.onRenewed(() => this.#renew(portTls)) ?? (() => undefined);
  }

  /** Listens no longer; connections stay, but for those that are not established. */
  stop(): void {
    this.#endRenewals();
    this.#handshakes.end();
    this.#listener.stop(false);
  }

  #handlers(): SocketHandler<Client> {
    const events = this.#events;
    if (this.#tls === undefined) return { binaryType: "uint8array", ...events };
    const handshakes = this.#handshakes;
    return {
      ...events,
      binaryType: "uint8array",
      open: (socket) => handshakes.begin(socket),
      handshake: (socket, success, failure) => {
        if (handshakes.finish(socket, success, failure)) void events.open(socket);
        else socket.terminate();
      },
      timeout: (socket) => {
        if (!handshakes.expired(socket)) return events.timeout(socket);
      },
      close: (socket, failure) => {
        handshakes.forget(socket);
        return events.close(socket, failure);
      },
    };
  }

  /**
   * Bun gives a listener its certificate once and for all, so another one takes over the same listening socket, by a copy of
   * its descriptor: no connection is refused meanwhile, and those that are established live on.
   */
  #renew(tls: ServedTls): void {
    const old = this.#listener;
    let copy: number | undefined;
    try {
      copy = copyOf(old);
      // Bun's types lack the descriptor; Bun.listen has taken one since 1.1.
      const taken = { fd: copy, tls: tls.options, socket: this.#handlers() };
      this.#listener = Bun.listen<Client>(taken as unknown as Bun.TCPSocketListenOptions<Client>);
      old.stop(false);
    } catch (failure) {
      if (copy !== undefined) closeSync(copy);
      const at = describeAddress({ host: old.hostname, port: this.port });
      const why = failure instanceof Error ? failure.message : String(failure);
      logger.warn(`${at} keeps its old certificate (${why}): send SIGHUP again, or restart`);
    }
  }
}

/** @throws Error if there is no free descriptor. */
function copyOf(listener: object): number {
  const fd = "fd" in listener && typeof listener.fd === "number" ? listener.fd : -1;
  const { symbols, close } = libc({ dup: { args: [FFIType.i32], returns: FFIType.i32 } });
  try {
    const copy = symbols.dup(fd);
    if (copy < 0) throw new Error("the system gives no further file descriptor");
    return copy;
  } finally {
    close();
  }
}
