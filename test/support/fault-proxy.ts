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

const ANSWER_TIMEOUT_MS = 60_000;

type Question = ProxyRequest extends infer R
  ? R extends ProxyRequest
    ? Omit<R, "id">
    : never
  : never;

/**
 * A TCP proxy in its own process, so that it doesn't delay the test. It has any number of routes, each to
 * one primary, and harms their connections as planned. TLS passes unchanged.
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

  /** Opens a route to a primary on loopback; without a plan its connections pass unharmed. */
  async route(port: number, host = "127.0.0.1"): Promise<FaultRoute> {
    const answer = await this.ask({ ask: "route", host, port });
    if (!("port" in answer)) throw new Error("the proxy returned no port");
    return new FaultRoute(this, answer.route, answer.port);
  }

  /** For the routes. @throws Error if the proxy's process reports one, or doesn't answer. */
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

/** One route through the proxy to one primary. */
export class FaultRoute implements AsyncDisposable {
  /** The loopback port that stands in for the primary's. */
  readonly port: number;
  readonly #proxy: FaultProxy;
  readonly #route: number;

  /** See `FaultProxy.route`. */
  constructor(proxy: FaultProxy, route: number, port: number) {
    this.#proxy = proxy;
    this.#route = route;
    this.port = port;
  }

  /** Plans the next connections, one plan each, and all later ones. Default for these: no fault. */
  async plan(next: readonly Plan[], later: Plan = []): Promise<void> {
    await this.#proxy.ask({ ask: "plan", route: this.#route, next, later });
  }

  /** Applies a fault to the open connections, from their next byte on. */
  async inject(direction: Direction, effect: Effect, lastsBytes?: number): Promise<void> {
    const lasts = lastsBytes === undefined ? {} : { lastsBytes };
    await this.#proxy.ask({ ask: "inject", route: this.#route, direction, effect, ...lasts });
  }

  async count(): Promise<RouteCount> {
    const answer = await this.#proxy.ask({ ask: "count", route: this.#route });
    if (!("count" in answer)) throw new Error("the proxy returned no count");
    return answer.count;
  }

  /** Stops listening and resets the open connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy.ask({ ask: "close", route: this.#route });
  }
}

/** Starts a proxy. It ends with `await using`, and with this process. */
export function startFaultProxy(): FaultProxy {
  return new FaultProxy();
}
