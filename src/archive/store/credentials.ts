import type { Clock } from "../../base/clock.ts";
import { ReplicaError, usageError } from "../../base/errors.ts";

/** What requests are signed with. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When they end, milliseconds since 1970; undefined: not known to end. */
  readonly expiresAtMs?: number;
}

/** Fetches credentials that hold now. @throws Error of where they come from, without a secret in it. */
export type CredentialSource = () => Promise<Credentials>;

/** Credentials are fetched anew so long before they end: the longest upload under way is over by then. */
const RENEW_BEFORE_MS = 5 * 60 * 1000;
/** And tried again after so long where that fails, while they still hold. */
const RENEW_AGAIN_MS = 30 * 1000;
/** How long a source may take: the metadata services of clouds answer within a second. */
const FETCH_MS = 30 * 1000;

/**
 * Credentials from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.
 * @returns undefined where it has none.
 * @throws ReplicaError USAGE where it has one of the first two.
 */
export function environmentCredentials(
  environment: Readonly<Record<string, string | undefined>>,
): CredentialSource | undefined {
  const value = (name: string) => environment[name]?.trim() || undefined;
  const [accessKeyId, secretAccessKey] = [
    value("AWS_ACCESS_KEY_ID"),
    value("AWS_SECRET_ACCESS_KEY"),
  ];
  if (accessKeyId === undefined && secretAccessKey === undefined) return undefined;
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw usageError(
      "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: one of them is not set",
    );
  }
  const sessionToken = value("AWS_SESSION_TOKEN");
  return async () => ({
    accessKeyId,
    secretAccessKey,
    ...(sessionToken === undefined ? {} : { sessionToken }),
  });
}

/** The credentials of the moment: fetched once for all who ask, and anew before they end. */
export class CurrentCredentials {
  readonly #source: CredentialSource;
  readonly #clock: Clock;
  #held: Credentials | undefined;
  /** When they are to be fetched again. */
  #renewAtMs = Infinity;
  #fetching: Promise<Credentials> | undefined;

  constructor(source: CredentialSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  /** @throws ReplicaError ARCHIVE_FORBIDDEN where there are none. */
  async get(): Promise<Credentials> {
    const held = this.#held;
    if (held !== undefined && this.#clock.now() < this.#renewAtMs) return held;
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    try {
      return await this.#fetching;
    } catch (cause) {
      if (held !== undefined && this.#clock.now() < (held.expiresAtMs ?? Infinity)) {
        this.#renewAtMs = this.#clock.now() + RENEW_AGAIN_MS;
        return held;
      }
      throw new ReplicaError("ARCHIVE_FORBIDDEN", {
        message: `no credentials for the archive: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role that has some (${reasonOf(cause)})`,
        cause,
      });
    }
  }

  /** Forgets these, because the server says that they have ended. */
  drop(ended: Credentials): void {
    if (this.#held === ended) this.#held = undefined;
  }

  async #fetch(): Promise<Credentials> {
    const over = new AbortController();
    const late = this.#clock.sleep(FETCH_MS, over.signal).then(() => {
      throw new Error(`their source did not answer within ${FETCH_MS / 1000} s`);
    });
    try {
      const fetched = await Promise.race([this.#source(), late]);
      this.#held = fetched;
      const { expiresAtMs = Infinity } = fetched;
      const leftMs = expiresAtMs - this.#clock.now();
      // Such as last no longer than that are used for half their time.
      this.#renewAtMs = expiresAtMs - Math.min(RENEW_BEFORE_MS, leftMs / 2);
      return fetched;
    } finally {
      over.abort();
      late.catch(() => undefined);
    }
  }
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : "no reason given";
}
