import { limits } from "../config/limits.ts";
import { ReplicaError } from "../base/errors.ts";
import { logger } from "../base/logger.ts";
import type { Password } from "../config/password.ts";
import type { CommandLimits } from "../resp/command-reader.ts";

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

  /** Back to the beginning, as after RESET. */
  reset(): void {
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

/** How many wrong passwords one address may send within WINDOW_MS. */
const MAX_FAILURES = 10;
const WINDOW_MS = 10_000;
/** How many addresses are remembered. An attacker with more of them is beyond the reach of a throttle. */
const MAX_ADDRESSES = 1_000;

/** Slows down guessing: after ten wrong passwords from an address in ten seconds, each further one closes its connection. */
export class LoginThrottle {
  readonly #failures = new Map<string, { count: number; sinceMs: number }>();

  /** Whether this host may send another wrong password now. */
  allows(host: string, nowMs: number): boolean {
    const seen = this.#failures.get(host);
    if (seen === undefined) return true;
    if (Math.abs(nowMs - seen.sinceMs) >= WINDOW_MS) {
      this.#failures.delete(host);
      return true;
    }
    return seen.count < MAX_FAILURES;
  }

  /** Counts a wrong password. Returns whether it was the last one that is allowed. */
  failed(host: string, nowMs: number): boolean {
    const seen = this.#failures.get(host);
    if (seen !== undefined) return ++seen.count === MAX_FAILURES;
    // A Map keeps its order: the first key is the oldest.
    const [oldest] = this.#failures.keys();
    if (this.#failures.size >= MAX_ADDRESSES && oldest !== undefined) this.#failures.delete(oldest);
    this.#failures.set(host, { count: 1, sinceMs: nowMs });
    return false;
  }
}
