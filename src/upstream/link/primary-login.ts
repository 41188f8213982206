import type { Login } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import type { Credentials } from "../../session/commands.ts";

/** A % that was not encoded makes another user or password than was meant. */
const URL_LOGIN = "the URL (percent-encoded)";

/** Redis's names for the parts of the login that CONFIG SET can change. */
export type LoginPart = "masteruser" | "masterauth";

/**
 * The login for the primary, looked up at each attempt. CONFIG SET comes first, until the program ends; then
 * the URL, then the settings.
 */
export class PrimaryLogin {
  readonly #url: Login;
  readonly #settings: Pick<Settings, "username" | "password">;
  readonly #set = new Map<LoginPart, string>();

  /** @param url the login that the URL carries. */
  constructor(url: Login, settings: Pick<Settings, "username" | "password">) {
    this.#url = url;
    this.#settings = settings;
  }

  /** Undefined: the default user. */
  get username(): string | undefined {
    return this.#set.get("masteruser") ?? this.#url.username ?? this.#settings.username;
  }

  /** The parts that CONFIG SET has changed. */
  get changed(): readonly LoginPart[] {
    return [...this.#set.keys()];
  }

  /** Where to put it so that it holds after a restart, too: where the URL carries one, no setting counts. */
  keptIn(part: LoginPart): string {
    const [inUrl, flag] =
      part === "masteruser"
        ? [this.#url.username, "--username"]
        : [this.#url.password, "--password-file"];
    return inUrl === undefined ? flag : `${URL_LOGIN}, which comes before ${flag}`;
  }

  /** CONFIG SET: holds from the next attempt on. An empty value brings back what was given at the start. */
  set(part: LoginPart, value: string): void {
    if (value === "") this.#set.delete(part);
    else this.#set.set(part, value);
  }

  /**
   * The login of this moment; undefined where no password is set, and none is sent.
   * @throws ReplicaError AUTH_FAILED where the password's file can't be read now.
   */
  read(): Credentials | undefined {
    const given = this.#given();
    if (given === undefined) return undefined;
    const user = this.#userFrom();
    const from = user === given.from ? `the login in ${user}` : `${user} and ${given.from}`;
    return { username: this.username, password: given.password, from };
  }

  #given(): Omit<Credentials, "username"> | undefined {
    const set = this.#set.get("masterauth");
    if (set !== undefined) return { password: set, from: "CONFIG SET masterauth" };
    if (this.#url.password !== undefined) {
      return { password: this.#url.password, from: URL_LOGIN };
    }
    const { password } = this.#settings;
    return password && { password: password.read(), from: password.from };
  }

  #userFrom(): string {
    if (this.#set.has("masteruser")) return "CONFIG SET masteruser";
    return this.#url.username === undefined ? "--username" : URL_LOGIN;
  }
}
