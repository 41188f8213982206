import { networkInterfaces } from "node:os";
import { limits } from "../../config/limits.ts";
import { ReplicaError } from "../../base/errors.ts";
import { logger } from "../../base/logger.ts";
import type { Password } from "../../config/password.ts";
import type { CommandLimits } from "../../resp/command-reader.ts";

/**
 * What one client may send before it has logged in, and how much of that it has used. A client that needs
 * no login has logged in from the beginning.
 */
export class LoginAllowance {
  readonly #needsLogin: boolean;
  #isLoggedIn: boolean;
  /** What was read and answered without a login. */
  #bytes = 0;
  #commands = 0;

  constructor(needsLogin: boolean) {
    this.#needsLogin = needsLogin;
    this.#isLoggedIn = !needsLogin;
  }

  get isLoggedIn(): boolean {
    return this.#isLoggedIn;
  }

  /** How large a command may be now. */
  get commandLimits(): CommandLimits {
    return this.#isLoggedIn ? limits.command : limits.loginCommand;
  }

  /** The login succeeded: from now on, nothing is counted. */
  logIn(): void {
    this.#isLoggedIn = true;
  }

  /** Back to the beginning, as after RESET. Who has not logged in gets nothing anew by that. */
  reset(): void {
    if (!this.#isLoggedIn) return;
    this.#isLoggedIn = !this.#needsLogin;
    this.#bytes = this.#commands = 0;
  }

  /** Counts bytes that were passed to the reader. */
  read(bytes: number): void {
    if (!this.#isLoggedIn) this.#bytes += bytes;
  }

  /** Counts a command that was answered. Returns whether it was one too many. */
  answered(): boolean {
    return !this.#isLoggedIn && ++this.#commands > limits.loginCommands;
  }

  /**
   * Whether the client has sent too much without a login.
   * @param waitingBytes received and not read yet; they count only once some were read, because a pipeline
   * may begin with its login.
   */
  isExceeded(waitingBytes: number): boolean {
    if (this.#isLoggedIn) return false;
    const bytes = this.#bytes === 0 ? 0 : this.#bytes + waitingBytes;
    return bytes > limits.loginInputBytes || this.#commands > limits.loginCommands;
  }
}

/** The port's own password, read anew at each login. Whoever has logged in stays so when it changes. */
export class OwnPassword {
  readonly #password: Password;
  /** Why it could not be read the last time; the log has it once. */
  #trouble: string | undefined;

  constructor(password: Password) {
    this.#password = password;
  }

  /** The password; undefined while it can't be read: nobody can log in then. */
  read(): string | undefined {
    try {
      const password = this.#password.read();
      if (this.#trouble !== undefined) logger.info("the port's password can be read again");
      this.#trouble = undefined;
      return password;
    } catch (error) {
      if (!(error instanceof ReplicaError)) throw error;
      if (error.message !== this.#trouble) {
        logger.warn(`nobody can log in at the port: ${error.message}`, { code: error.code });
      }
      this.#trouble = error.message;
      return undefined;
    }
  }
}

/** How many wrong passwords are answered at once within WINDOW_MS: of one network, and of all together. */
const MAX_FAILURES = 10;
const MAX_ALL_FAILURES = 100;
const WINDOW_MS = 10_000;
/** How long an answer waits. Most client libraries give a command two seconds or more. */
const WAIT_MS = 1_000;
/** With more logins waiting than this, each waits longer: so many are answered in WAIT_MS, and no more. */
const MAX_WAITING = 100;
/** How many networks are remembered, of those that failed and of those that logged in. */
const MAX_NETWORKS = 1_000;

/** Wrong passwords since a moment. */
interface Failures {
  count: number;
  sinceMs: number;
}

/**
 * Slows down guessing, and locks nobody out. After some wrong passwords from a network, or from all of them together,
 * each login waits for its answer, the right one too: a wrong one that alone is late would be known by that. A network
 * from which the right password came isn't held up by what others guess.
 */
export class LoginThrottle {
  readonly #failures = new Map<string, Failures>();
  readonly #all: Failures = { count: 0, sinceMs: -Infinity };
  /** Networks from which the right password came, the latest last. */
  readonly #known = new Set<string>();
  #waiting = 0;

  /** Whether so many wrong passwords came from there lately that the next one closes its connection. */
  isSuspect(host: string, nowMs: number): boolean {
    const network = networkOf(host);
    const seen = this.#failures.get(network);
    if (seen === undefined) return false;
    if (!isOver(seen, nowMs)) return seen.count >= MAX_FAILURES;
    this.#failures.delete(network);
    return false;
  }

  /** How long the answer to a login from there has to wait; milliseconds. */
  waitMs(host: string, nowMs: number): number {
    const isFlooded = !isOver(this.#all, nowMs) && this.#all.count >= MAX_ALL_FAILURES;
    const isHeld = isFlooded && !this.#known.has(networkOf(host));
    if (!isHeld && !this.isSuspect(host, nowMs)) return 0;
    return WAIT_MS * Math.max(1, (this.#waiting + 1) / MAX_WAITING);
  }

  /** A login begins to wait; returns a function that ends that, to be called once. */
  wait(): () => void {
    this.#waiting++;
    return () => void this.#waiting--;
  }

  /** Counts a wrong password. Returns which limit it was the last one for; undefined for none. */
  failed(host: string, nowMs: number): "network" | "all" | undefined {
    const network = networkOf(host);
    if (isOver(this.#all, nowMs)) Object.assign(this.#all, { count: 0, sinceMs: nowMs });
    const isLastOfAll = ++this.#all.count === MAX_ALL_FAILURES;
    const seen = this.#failures.get(network);
    if (seen === undefined) {
      makeRoom(this.#failures);
      this.#failures.set(network, { count: 1, sinceMs: nowMs });
    } else if (++seen.count === MAX_FAILURES) {
      return "network";
    }
    return isLastOfAll ? "all" : undefined;
  }

  /** The right password came from there. */
  succeeded(host: string): void {
    const network = networkOf(host);
    this.#known.delete(network);
    makeRoom(this.#known);
    this.#known.add(network);
  }
}

/** A clock that was set back holds nobody up either. */
function isOver({ sinceMs }: Failures, nowMs: number): boolean {
  return Math.abs(nowMs - sinceMs) >= WINDOW_MS;
}

/** Forgets the oldest: maps and sets keep their order. */
function makeRoom(remembered: Map<string, unknown> | Set<string>): void {
  const [oldest] = remembered.keys();
  if (remembered.size >= MAX_NETWORKS && oldest !== undefined) remembered.delete(oldest);
}

/**
 * All the addresses that one guesser may have: an IPv6 network of 64 bits, and every address of this machine itself.
 * @param own the addresses of this machine; asked of the system only for those that aren't loopback.
 */
export function networkOf(host: string, own = ownAddresses): string {
  const plain = host.replace(/^\[(.*)\]$/, "$1").replace(/^::ffff:(?=\d+\.)/i, "");
  if (plain === "::1" || plain.startsWith("127.") || own().has(plain)) return "this machine";
  if (!plain.includes(":")) return plain;
  const [head = "", tail] = plain.split("::");
  const [before, after] = [head, tail ?? ""].map((part) =>
    part.split(":").filter((one) => one !== ""),
  );
  const zeros = tail === undefined ? 0 : 8 - before!.length - after!.length;
  return [...before!, ...Array<string>(zeros).fill("0"), ...after!].slice(0, 4).join(":");
}

function ownAddresses(): ReadonlySet<string> {
  const interfaces = Object.values(networkInterfaces());
  return new Set(interfaces.flatMap((one) => (one ?? []).map(({ address }) => address)));
}
