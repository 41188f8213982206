import { join } from "node:path";
import { endWithProcess, endingWithParent } from "./children.ts";
import type {
  Direction,
  Effect,
  Plan,
  ProxyAnswer,
  ProxyRequest,
  RouteCount,
} from "./fault-plan.ts";
import { within } from "./wait.ts";

const ANSWER_TIMEOUT_MS = 20_000;

type Question = ProxyRequest extends infer R
  ? R extends ProxyRequest
    ? Omit<R, "id">
    : never
  : never;

/**
 * A TCP proxy in a process of its own, so that its delays are no delays of the test's: any number of
 * routes, each to one primary, whose connections suffer what they are told. TLS passes as it is.
 */
export class FaultProxy implements AsyncDisposable {
  readonly #child: Bun.Subprocess;
  readonly #waiting = new Map<number, (answer: ProxyAnswer) => void>();
  #lastId = 0;

  /** See `startFaultProxy`. */
  constructor() {
    const program = [process.execPath, join(import.meta.dir, "fault-proxy-process.ts")];
    this.#child = Bun.spawn(endingWithParent(program), {
      stdio: ["ignore", "inherit", "inherit"],
      ipc: (answer: ProxyAnswer) => {
        this.#waiting.get(answer.id)?.(answer);
        this.#waiting.delete(answer.id);
      },
      serialization: "json",
    });
    endWithProcess(this.#child);
  }

  /** A new way to a primary on loopback; without a plan every connection passes unharmed. */
  async route(port: number, host = "127.0.0.1"): Promise<FaultRoute> {
    const answer = await this.ask({ ask: "route", host, port });
    if (!("port" in answer)) throw new Error("the proxy gave no port");
    return new FaultRoute(this, answer.route, answer.port);
  }

  /** For the routes. @throws Error as the proxy's process says, or where it says nothing. */
  async ask(question: Question): Promise<ProxyAnswer> {
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<ProxyAnswer>();
    this.#waiting.set(id, resolve);
    this.#child.send({ id, ...question });
    const answer = await within(
      ANSWER_TIMEOUT_MS,
      `the proxy's answer to ${question.ask}`,
      promise,
    );
    if ("error" in answer) throw new Error(`the proxy: ${answer.error}`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

/** One way through the proxy to one primary. */
export class FaultRoute implements AsyncDisposable {
  /** Where it listens on loopback, in the primary's place. */
  readonly port: number;
  readonly #proxy: FaultProxy;
  readonly #route: number;

  /** See `FaultProxy.route`. */
  constructor(proxy: FaultProxy, route: number, port: number) {
    this.#proxy = proxy;
    this.#route = route;
    this.port = port;
  }

  /** Plans for the next connections, one each in turn, then one for all later ones: no fault unless told. */
  async plan(next: readonly Plan[], later: Plan = []): Promise<void> {
    await this.#proxy.ask({ ask: "plan", route: this.#route, next, later });
  }

  /** Lets something befall the connections that are there, from their next byte on. */
  async inject(direction: Direction, effect: Effect, lastsBytes?: number): Promise<void> {
    const lasts = lastsBytes === undefined ? {} : { lastsBytes };
    await this.#proxy.ask({ ask: "inject", route: this.#route, direction, effect, ...lasts });
  }

  async count(): Promise<RouteCount> {
    const answer = await this.#proxy.ask({ ask: "count", route: this.#route });
    if (!("count" in answer)) throw new Error("the proxy gave no count");
    return answer.count;
  }

  /** Listens no more, and breaks what is open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy.ask({ ask: "close", route: this.#route });
  }
}

/** Starts a proxy; it ends with `await using`, and with this process. */
export function startFaultProxy(): FaultProxy {
  return new FaultProxy();
}
