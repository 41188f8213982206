import { ReplicaError } from "../base/errors.ts";
import { printableBytes } from "../base/printable.ts";

/** The command that -NOPERM speaks of: "this user has no permissions to run the 'psync' command" (Redis 6.0 and later). */
const NAMED = /'([a-z0-9_.|-]{1,64})' command/i;

/** What a user may not do, as far as its attempts have shown. */
export class Rights {
  readonly #user: string;
  readonly #lacking = new Set<string>();

  /** @param user undefined: the default user. */
  constructor(user: string | undefined) {
    this.#user = user ?? "default";
  }

  /** Takes a -NOPERM in answer to `command`. */
  lack(command: string, line: Uint8Array): void {
    const named = NAMED.exec(printableBytes(line))?.[1];
    this.#lacking.add((named ?? command).toLowerCase());
  }

  /** The line to paste into redis-cli at the primary: it grants what was refused so far. */
  get grant(): string {
    const rights = [...this.#lacking].map((command) => ` +${command}`);
    return `ACL SETUSER ${this.#user}${rights.join("")}`;
  }

  /**
   * The error for a user that may not sync.
   * @param line the primary's -NOPERM, or the -NOAUTH of one that wants a login only now.
   * @param withheld why no login was sent though there is one, and what to do.
   */
  refuse(command: string, line: Uint8Array, withheld: string | undefined): ReplicaError {
    const said = printableBytes(line);
    if (!said.startsWith("-NOPERM")) {
      const login = withheld ?? "set --username and --password-file";
      return new ReplicaError("AUTH_FAILED", {
        message: `the primary permits no sync without a login: ${said}; ${login}`,
      });
    }
    this.lack(command, line);
    const login = withheld ?? "log in as another with --username and --password-file";
    return new ReplicaError("AUTH_FAILED", {
      message: `the primary permits no sync: ${said}; send it ${this.grant}, or ${login}`,
    });
  }
}
