import { describeTarget, type Login, type PrimaryTarget } from "../../config/primary-url.ts";
import type { Settings } from "../../config/settings.ts";
import type { Credentials } from "../../session/commands.ts";

/** A % that was not encoded makes another user or password than was meant. */
const URL_LOGIN = "the URL (percent-encoded)";

/** Redis's names for the parts of the login that CONFIG SET can change. */
export type LoginPart = "masteruser" | "masterauth";

/**
 * The login for the primary, looked up at each attempt. Whom the start names (by its URL, or through Sentinel) gets
 * it: what CONFIG SET gave for it comes first, until the program ends; then the URL, then the settings. A stranger,
 * whom only REPLICAOF names, gets the password that CONFIG SET gave for it, and no other: whoever may send REPLICAOF
 * could listen there. The user is no secret.
 */
export class PrimaryLogin {
  readonly #url: Login;
  readonly #settings: Pick<Settings, "username" | "password">;
  readonly #setForNamed = new Map<LoginPart, string>();
  #setForStranger = new Map<LoginPart, string>();
  /** Who is followed, where that is a stranger: whom CONFIG SET speaks of. */
  #stranger: string | undefined;

  /** @param url the login that the URL carries. */
  constructor(url: Login, settings: Pick<Settings, "username" | "password">) {
    this.#url = url;
    this.#settings = settings;
  }

  /** Another one is followed now. What CONFIG SET gave for a stranger before it is forgotten. */
  turnTo(target: PrimaryTarget): void {
    const stranger = target.isStranger === true ? describeTarget(target) : undefined;
    if (stranger !== this.#stranger) this.#setForStranger = new Map();
    this.#stranger = stranger;
  }

  /** Whether a password was given at the start. */
  get isGiven(): boolean {
    return this.#url.password !== undefined || this.#settings.password !== undefined;
  }

  /** For whom is followed now. Undefined: the default user. */
  get username(): string | undefined {
    return this.#set.get("masteruser") ?? this.#url.username ?? this.#settings.username;
  }

  /** The parts that CONFIG SET has changed for whom is followed now. */
  get changed(): readonly LoginPart[] {
    return [...this.#set.keys()];
  }

  /** Where to put it so that it holds after a restart, too: where the URL carries one, no setting counts. */
  keptIn(part: LoginPart): string {
    if (this.#stranger !== undefined) return `the URL of ${this.#stranger}, to start with`;
    const [inUrl, flag] =
      part === "masteruser"
        ? [this.#url.username, "--username"]
        : [this.#url.password, "--password-file"];
    return inUrl === undefined ? flag : `${URL_LOGIN}, which comes before ${flag}`;
  }

  /**
   * CONFIG SET: holds from the next attempt on, for whom is followed now. An empty value brings back what was given
   * at the start, which for a stranger is no password.
   */
  set(part: LoginPart, value: string): void {
    if (value === "") this.#set.delete(part);
    else this.#set.set(part, value);
  }

  /**
   * Why whom is followed now gets no password though one was given at the start, and what to do; undefined where it
   * gets one, or none was given.
   */
  get withheld(): string | undefined {
    const stranger = this.#stranger;
    if (stranger === undefined || !this.isGiven || this.#set.has("masterauth")) return undefined;
    return (
      `no password is sent to ${stranger}, which only REPLICAOF names: ` +
      "start with its URL, or where Sentinel decides with redis+sentinel://…, or send CONFIG SET masterauth for it"
    );
  }

  /**
   * The login of this moment for `target`; undefined where there is no password for it, and none is sent.
   * @throws ReplicaError AUTH_FAILED where the password's file can't be read now.
   */
  read(target: PrimaryTarget): Credentials | undefined {
    const isStranger = target.isStranger === true;
    // A link to a stranger of before may still be asking.
    if (isStranger && describeTarget(target) !== this.#stranger) return undefined;
    const set = isStranger ? this.#setForStranger : this.#setForNamed;
    const given = this.#passwordIn(set, isStranger);
    if (given === undefined) return undefined;
    const user = this.#userFrom(set);
    const from = user === given.from ? `the login in ${user}` : `${user} and ${given.from}`;
    const username = set.get("masteruser") ?? this.#url.username ?? this.#settings.username;
    return { username, password: given.password, from };
  }

  /** What CONFIG SET gave for whom is followed now. */
  get #set(): Map<LoginPart, string> {
    return this.#stranger === undefined ? this.#setForNamed : this.#setForStranger;
  }

  #passwordIn(
    changed: ReadonlyMap<LoginPart, string>,
    isStranger: boolean,
  ): Omit<Credentials, "username"> | undefined {
    const set = changed.get("masterauth");
    if (set !== undefined) return { password: set, from: "CONFIG SET masterauth" };
    if (isStranger) return undefined;
    if (this.#url.password !== undefined) {
      return { password: this.#url.password, from: URL_LOGIN };
    }
    const { password } = this.#settings;
    return password && { password: password.read(), from: password.from };
  }

  #userFrom(changed: ReadonlyMap<LoginPart, string>): string {
    if (changed.has("masteruser")) return "CONFIG SET masteruser";
    return this.#url.username === undefined ? "--username" : URL_LOGIN;
  }
}
