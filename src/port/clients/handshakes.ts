import type { Socket } from "bun";
import { describeAddress } from "../../base/address.ts";
import { limits } from "../../config/limits.ts";
import type { Alarms } from "./alarms.ts";

/** What the TLS library says, and what an operator is told of it. */
const REASONS: readonly (readonly [pattern: RegExp, warning: string])[] = [
  [
    /WRONG_VERSION_NUMBER|HTTP_REQUEST|HTTPS_PROXY_REQUEST/,
    "disconnected a client that does not speak TLS: this port takes nothing else, so use rediss:// or redis-cli --tls",
  ],
  [
    /PEER_DID_NOT_RETURN_A_CERTIFICATE/,
    "disconnected a client that shows no certificate: give it one that --port-tls-ca has signed",
  ],
  [/UNSUPPORTED_PROTOCOL/, "disconnected a client whose TLS is older than 1.2: update it"],
  [
    /ALERT/,
    "a client refused this port's certificate: check --port-tls-cert, and the CA and the name that the client expects",
  ],
];
const OTHER = "disconnected a client whose TLS handshake failed: see what it says itself";
const REFUSED =
  "disconnected a client whose certificate is not valid: give it one that --port-tls-ca has signed and that has not expired";
const SLOW = `disconnected clients that began no TLS, or did not finish its handshake within ${limits.loginSeconds} s`;

/** Connections on which TLS isn't established yet. They are limited in number and in time, and cost no client its place. */
export class Handshakes {
  readonly #alarms: Alarms;
  readonly #asksClients: boolean;
  /** Those under way, the oldest first, with their addresses. */
  readonly #pending = new Map<Socket<unknown>, string>();

  /** @param asksClients whether each client needs a valid certificate. */
  constructor(alarms: Alarms, asksClients: boolean) {
    this.#alarms = alarms;
    this.#asksClients = asksClients;
  }

  /** Of too many, the oldest is disconnected: whoever means it is done within milliseconds. */
  begin(socket: Socket<unknown>): void {
    const { remoteAddress: host, remotePort: port } = socket;
    // A client that left before it was accepted has no address.
    if (host === undefined) return void socket.terminate();
    const [oldest] = this.#pending.size < limits.handshakes ? [] : this.#pending.keys();
    if (oldest !== undefined) this.#cut(oldest);
    this.#pending.set(socket, describeAddress({ host, port }));
    // Bytes don't extend it.
    socket.timeout(limits.loginSeconds);
  }

  /** @returns whether the connection may be used; if not, why not was logged. */
  finish(socket: Socket<unknown>, success: boolean, failure: Error | null): boolean {
    const address = this.#pending.get(socket);
    if (address === undefined) return false;
    this.#pending.delete(socket);
    // Where no client is asked for a certificate, the failure is that none was verified.
    if (success && (!this.#asksClients || failure === null)) return true;
    const warning = success ? REFUSED : warningOf(failure);
    if (warning !== undefined) this.#alarms.warn(warning, address);
    return false;
  }

  /** Whether its time was up before TLS was established; then it is disconnected. */
  expired(socket: Socket<unknown>): boolean {
    if (!this.#pending.has(socket)) return false;
    this.#cut(socket);
    return true;
  }

  /** Its connection is closed. */
  forget(socket: Socket<unknown>): void {
    this.#pending.delete(socket);
  }

  /** Disconnects all. */
  end(): void {
    for (const socket of this.#pending.keys()) socket.terminate();
    this.#pending.clear();
  }

  #cut(socket: Socket<unknown>): void {
    const address = this.#pending.get(socket);
    this.#pending.delete(socket);
    socket.terminate();
    if (address !== undefined) this.#alarms.warn(SLOW, address);
  }
}

/** Undefined for a client that just left, as a health check of the port alone does. */
function warningOf(failure: Error | null): string | undefined {
  const said = failure?.message ?? "";
  if (failure !== null && "code" in failure && failure.code === "ECONNRESET") return undefined;
  if (/disconnected before secure TLS/.test(said)) return undefined;
  return REASONS.find(([pattern]) => pattern.test(said))?.[1] ?? OTHER;
}
