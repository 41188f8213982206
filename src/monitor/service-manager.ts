import { logger } from "../base/logger.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { datagramsTo } from "./unix-datagrams.ts";

/** How often the state is looked at, and what hasn't gone out is sent again. */
const LOOK_MS = 1000;
/** A timer takes no more than 24 days. */
const MAX_WATCHDOG_MS = 3_600_000;

/** The variables by which a service manager asks to be told, sd_notify(3); no child is to have them. */
const VARIABLES = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

/** Fields of sd_notify(3) by their name, as `READY` and `STATUS`. */
type Fields = Readonly<Record<string, string>>;

/**
 * Tells the service manager how a replica is, as sd_notify(3) has it: ready now, which is serving, not
 * connected, so that a primary that is away fails no boot; its status, when the link's state or the
 * primary is another; that it stops, once `stopping` aborts; and, where a watchdog waits for this
 * process, that its event loop turns. Where it can't tell, it warns of that once.
 * @param env the variables, from which those of the service manager are taken out.
 * @returns what ends it; says that it stops where that has not been said.
 */
export function notifyServiceManager(
  env: Record<string, string | undefined>,
  status: ReplicaStatus,
  stopping: AbortSignal,
): () => void {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = env;
  for (const name of VARIABLES) delete env[name];
  const manager = new ServiceManager(NOTIFY_SOCKET ?? "");
  let isStopping = false;
  const line = () => (isStopping ? "stopping" : statusLine(status));
  let told = summary(status);
  manager.tell({ READY: "1", STATUS: line() });
  const looking = setInterval(() => {
    const isNew = !isStopping && summary(status) !== told;
    told = summary(status);
    manager.tell(isNew ? { STATUS: line() } : {});
  }, LOOK_MS);
  const everyMs = watchdogMs(WATCHDOG_USEC, WATCHDOG_PID);
  const turn = () => manager.tell({ WATCHDOG: "1", STATUS: line() });
  const turning = everyMs === undefined ? undefined : setInterval(turn, everyMs);
  const stop = () => {
    if (isStopping) return;
    isStopping = true;
    manager.tell({ STOPPING: "1", STATUS: line() });
  };
  if (stopping.aborted) stop();
  else stopping.addEventListener("abort", stop, { once: true });
  return () => {
    stop();
    clearInterval(looking);
    clearInterval(turning);
  };
}

/** The part of the status whose change is reported at once; the offset alone moves too often. */
function summary({ link, isFollowing, primary }: ReplicaStatus): string {
  return `${link.state}, ${isFollowing ? primary.name : "no one"}`;
}

/** One short line for people: `connected, redis://10.0.0.5:6379, durable up to offset 1234`. */
function statusLine(status: ReplicaStatus): string {
  const kept =
    status.generation === undefined
      ? "nothing kept yet"
      : `durable up to offset ${status.cursors.durable}`;
  return `${summary(status)}, ${kept}`;
}

/** How often the watchdog is told: at half of its time; undefined where none waits for this process. */
function watchdogMs(usec: string | undefined, pid: string | undefined): number | undefined {
  if (usec === undefined || !/^[1-9]\d*$/.test(usec)) return undefined;
  if (pid !== undefined && pid !== String(process.pid)) return undefined;
  return Math.min(Number(usec) / 2000, MAX_WATCHDOG_MS);
}

/** Who listens at NOTIFY_SOCKET. */
class ServiceManager {
  readonly #send: ReturnType<typeof datagramsTo>;
  readonly #path: string;
  /** What is to be told and has not gone out. */
  readonly #unsent = new Map<string, string>();
  #warned = false;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#send = datagramsTo(path);
    } catch {
      // As where nobody listens: the first attempt to tell warns.
    }
  }

  tell(fields: Fields): void {
    // A line end would begin another field.
    for (const [name, value] of Object.entries(fields))
      this.#unsent.set(name, value.replace(/\p{Cc}/gu, "?"));
    if (this.#unsent.size === 0) return;
    const lines = [...this.#unsent].map(([name, value]) => `${name}=${value}\n`);
    if (this.#send?.(Buffer.from(lines.join(""))) === true) return this.#unsent.clear();
    if (this.#warned) return;
    this.#warned = true;
    logger.warn(
      `can't tell the service manager at ${this.#path} how it is, and goes on: NOTIFY_SOCKET must name a datagram socket that listens (systemd's Type=notify)`,
    );
  }
}
