import { backoffMs, type Clock } from "../../base/clock.ts";
import { ReplicaError } from "../../base/errors.ts";
import type { Credentials, CurrentCredentials } from "./credentials.ts";
import { orAborted } from "./object-store.ts";
import type { S3Address } from "./s3-address.ts";
import { type Doing, errorOf, type Refusal, refusalOf, saidBy, verdictOf } from "./s3-refusal.ts";
import type { S3Answer, S3Request, S3Transport } from "./s3-transport.ts";

/** How often a request is tried: with the pauses between, some seconds. Who calls tries again in its own time. */
const TRIES = 5;
const MAX_PAUSE_MS = 5_000;

/** What came of one try. */
type Outcome =
  | { readonly at: "answered"; readonly answer: S3Answer }
  | { readonly at: "refused"; readonly refusal: Refusal }
  | { readonly at: "broken"; readonly why: string; readonly cause: unknown };

/** Statuses of S3 that the caller knows what to do with. */
export type AwaitedStatus = 404 | 412 | 416 | 501;

/**
 * Sends requests to a bucket until they are answered: again after a jittered pause where that may help, signed anew
 * each time.
 */
export class S3Client {
  readonly #address: S3Address;
  readonly #transport: S3Transport;
  readonly #credentials: CurrentCredentials;
  readonly #clock: Clock;
  #knowsRegion = false;

  constructor(
    address: S3Address,
    transport: S3Transport,
    credentials: CurrentCredentials,
    clock: Clock,
  ) {
    this.#address = address;
    this.#transport = transport;
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /**
   * @param awaited refusals that are returned as answers; a 404 for the bucket itself never is.
   * @param check looks at an answer: what it returns is wrong with it, and worth another try.
   * @throws ReplicaError ARCHIVE_FAILED, ARCHIVE_FORBIDDEN; the reason of `signal`.
   */
  async send(
    request: S3Request,
    doing: Doing,
    signal: AbortSignal,
    awaited: readonly AwaitedStatus[] = [],
    check: (answer: S3Answer) => Promise<string | undefined> = async () => undefined,
  ): Promise<S3Answer> {
    let hasRenewed = false;
    for (let tries = 1; ; tries++) {
      signal.throwIfAborted();
      const credentials = await orAborted(this.#credentials.get(), signal);
      const { region } = this.#address;
      const outcome = await this.#try(request, doing, credentials, signal, awaited, check);
      if (outcome.at === "answered") return outcome.answer;
      if (outcome.at === "refused") {
        const verdict = verdictOf(outcome.refusal);
        if (verdict === "renew credentials" && !hasRenewed) {
          hasRenewed = true;
          this.#credentials.drop(credentials);
          continue;
        }
        if (verdict === "other region" && this.#follow(outcome.refusal, region)) continue;
        if (verdict !== "try again") throw this.#refused(outcome.refusal, doing, credentials);
      }
      if (tries >= TRIES) throw this.#givenUp(outcome, doing, credentials, tries);
      await this.#clock.sleep(
        backoffMs(tries, MAX_PAUSE_MS, () => this.#clock.random()),
        signal,
      );
    }
  }

  async #try(
    request: S3Request,
    doing: Doing,
    credentials: Credentials,
    signal: AbortSignal,
    awaited: readonly AwaitedStatus[],
    check: (answer: S3Answer) => Promise<string | undefined>,
  ): Promise<Outcome> {
    const answer = await this.#transport.send(request, credentials, signal);
    if ("why" in answer) {
      const { why, isTransient, cause } = answer;
      if (isTransient) return { at: "broken", why, cause };
      throw this.#failure(doing, why, "never", cause);
    }
    const refusal = refusalOf(answer);
    if (refusal !== undefined) {
      const isAwaited = awaited.some((status) => status === refusal.status);
      if (!isAwaited || refusal.code === "NoSuchBucket") return { at: "refused", refusal };
      return { at: "answered", answer };
    }
    const wrong = await check(answer);
    return wrong === undefined
      ? { at: "answered", answer }
      : { at: "broken", why: wrong, cause: undefined };
  }

  /** Takes the region that the server names, once: a second one would be a loop. */
  #follow({ region }: Refusal, signedFor: string): boolean {
    if (region === undefined || region === signedFor || !/^[\w-]{1,64}$/.test(region)) return false;
    // Another request that was under way has followed it meanwhile.
    if (region === this.#address.region) return true;
    if (this.#knowsRegion) return false;
    this.#knowsRegion = true;
    this.#address.region = region;
    return true;
  }

  #refused(refusal: Refusal, doing: Doing, credentials: Credentials): ReplicaError {
    return errorOf(refusal, doing, this.#address, credentials, this.#clock.now());
  }

  #givenUp(
    outcome: Exclude<Outcome, { at: "answered" }>,
    doing: Doing,
    credentials: Credentials,
    tries: number,
  ): ReplicaError {
    const why =
      outcome.at === "broken" ? outcome.why : `it answers ${saidBy(outcome.refusal, credentials)}`;
    const cause = outcome.at === "broken" ? outcome.cause : undefined;
    return this.#failure(doing, `${why}, after ${tries} tries`, "backoff", cause);
  }

  #failure(
    { verb, place }: Doing,
    why: string,
    retry: "backoff" | "never",
    cause: unknown,
  ): ReplicaError {
    const message = `${verb} ${place} at ${this.#address.server}: ${why}`;
    return new ReplicaError("ARCHIVE_FAILED", { retry, message, cause });
  }
}
