import { type Clock, realClock } from "../../src/base/clock.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { screenLines } from "../../src/cli/status/status-screen.ts";
import { parseInfo } from "../../src/resp/info-text.ts";
import { Metrics } from "../../src/monitor/metrics.ts";
import { serveHttp } from "../../src/monitor/http.ts";
import { replicaView } from "../../src/monitor/document/replica-view.ts";
import { parseExposition, type Sample } from "./exposition.ts";
import { follow } from "./following.ts";
import { RespClient } from "./resp-client.ts";
import { tempDir } from "./temp.ts";
import { around } from "./view.ts";
import { until } from "./wait.ts";

const READY_LAG_MS = 10_000;

/** A replica in this process with everything that reports on it, in a folder of its own. */
export class Reporting implements AsyncDisposable {
  readonly #dir = tempDir("reporting");
  readonly #metrics = new Metrics();
  readonly #http: ReturnType<typeof serveHttp>;
  readonly following: ReturnType<typeof follow>;

  constructor(url: string, flags: Record<string, string> = {}, clock: Clock = realClock) {
    this.following = follow(url, realDisk, this.#dir, flags, undefined, clock);
    this.#metrics.of(this.following.status, "1.2.3");
    const address = { host: "127.0.0.1", port: 0, names: [] };
    this.#http = serveHttp(
      address,
      this.#metrics,
      replicaView(this.following.status, around(READY_LAG_MS)),
    );
  }

  get port(): number {
    return this.following.port;
  }

  /** Its URL for another one that follows it. */
  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Its status page. */
  get pageUrl(): string {
    return `http://127.0.0.1:${this.#http.port}/`;
  }

  /** The lines of `replica status`. */
  async screen(): Promise<string> {
    const scene = { at: "h:1", info: await this.info() };
    return screenLines(scene, { columns: undefined, hasColors: false }).join("\n");
  }

  /** Sends a command to its port. */
  async send(...words: [string, ...string[]]): Promise<unknown> {
    await using client = await RespClient.connect({ port: this.port });
    return await client.send(...words);
  }

  /** The fields of INFO. */
  async info(): Promise<ReadonlyMap<string, string>> {
    return parseInfo(String(await this.send("INFO")));
  }

  /** What an HTTP path answers. */
  async get(path: string): Promise<{ readonly status: number; readonly text: string }> {
    const response = await fetch(`http://127.0.0.1:${this.#http.port}${path}`);
    return { status: response.status, text: await response.text() };
  }

  /** What Prometheus gets. */
  async scrape(): Promise<Sample[]> {
    const families = parseExposition((await this.get("/metrics")).text);
    return families.flatMap(({ samples }) => samples);
  }

  /** A metric without labels, or the sum of its series. */
  async metric(name: string): Promise<number> {
    const found = (await this.scrape()).filter((one) => one.name === name);
    if (found.length === 0) throw new Error(`no metric ${name}`);
    return found.reduce((sum, { value }) => sum + value, 0);
  }

  /** Waits until `/readyz` says that it is ready, or that it isn't, for this reason; returns what it says. */
  async readyzSays(what: "ready" | RegExp): Promise<string> {
    let said = "";
    await until(
      async () => {
        const { status, text } = await this.get("/readyz");
        said = text.trim();
        const expected = what === "ready" ? [200, /^ready$/] : [503, what];
        return status === expected[0] && (expected[1] as RegExp).test(said);
      },
      { what: `/readyz to say ${String(what)}`, everyMs: 50 },
    ).catch((error: unknown) => {
      throw new Error(`/readyz says "${said}"`, { cause: error });
    });
    return said;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#http.stop();
    await this.following[Symbol.asyncDispose]();
    this.#dir.remove();
  }
}
