import { logger } from "../base/logger.ts";
import { printable } from "../base/printable.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import { datagramsTo } from "./unix-datagrams.ts";

/** How often the status is checked for a change, and unsent messages are retried. */
const LOOK_MS = 1000;
/** A copy that is older than this is told to be stale. */
const STALE_SECONDS = 60;
/** Below the 24 days that a timer can be set for. */
const MAX_WATCHDOG_MS = 3_600_000;

/** The service manager's variables, sd_notify(3). Child processes must not inherit them. */
const VARIABLES = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

/** What the service manager is told. */
export interface ServiceStatus {
  /** The part whose change is reported at once; an offset alone moves too often. */
  summary(): string;
  /** One short line for people. */
  line(): string;
}

/** Fields of sd_notify(3) by name, such as `READY` and `STATUS`. */
type Fields = Readonly<Record<string, string>>;

/**
 * Notifies the service manager by sd_notify(3). Sends READY at once, when the port is served: waiting for the
 * primary would fail a boot while the primary is away. Sends STATUS when the link's state, the primary or
 * the minutes for which the copy has been stale change, STOPPING once `stopping` aborts, and WATCHDOG while the event loop turns, where the service manager
 * asks for it. Logs one warning where nothing can be sent.
 * @param env the environment; the service manager's variables are removed from it.
 * @returns a function that sends STOPPING, if that was not sent, and ends the notifications.
 */
export function notifyServiceManager(
  env: Record<string, string | undefined>,
  status: ServiceStatus,
  stopping: AbortSignal,
): () => void {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = env;
  for (const name of VARIABLES) delete env[name];
  const manager = new ServiceManager(NOTIFY_SOCKET ?? "");
  let isStopping = false;
  const line = () => (isStopping ? "stopping" : status.line());
  let sent = status.summary();
  manager.notify({ READY: "1", STATUS: line() });
  const looking = setInterval(() => {
    const isNew = !isStopping && status.summary() !== sent;
    sent = status.summary();
    manager.notify(isNew ? { STATUS: line() } : {});
  }, LOOK_MS);
  const everyMs = watchdogMs(WATCHDOG_USEC, WATCHDOG_PID);
  const turn = () => manager.notify({ WATCHDOG: "1", STATUS: line() });
  const turning = everyMs === undefined ? undefined : setInterval(turn, everyMs);
  const stop = () => {
    if (isStopping) return;
    isStopping = true;
    manager.notify({ STOPPING: "1", STATUS: line() });
  };
  if (stopping.aborted) stop();
  else stopping.addEventListener("abort", stop, { once: true });
  return () => {
    stop();
    clearInterval(looking);
    clearInterval(turning);
  };
}

/** The status of one replica, for the service manager. */
export function serviceStatusOf(status: ReplicaStatus): ServiceStatus {
  return { summary: () => summary(status), line: () => statusLine(status) };
}

function summary({
  link,
  isFollowing,
  primary,
  staleFor,
  staleSeconds,
  supply,
}: ReplicaStatus): string {
  const words = [link.state, isFollowing ? primary.name : "no one"];
  if (supply.trouble !== undefined) words.push("nobody supplies data");
  // Each second of the first minute is no news.
  if (staleFor !== undefined && (staleSeconds ?? 0) >= STALE_SECONDS) words.push(staleFor);
  return words.join(", ");
}

/** One short line for people: `connect, redis://10.0.0.5:6379, stale for 28 min, durable up to offset 1234`. */
function statusLine(status: ReplicaStatus): string {
  const kept =
    status.generation === undefined
      ? "nothing kept yet"
      : `durable up to offset ${status.cursors.durable}`;
  return `${summary(status)}, ${kept}`;
}

/** How often to notify the watchdog: at half of its timeout. Undefined where none watches this process. */
function watchdogMs(usec: string | undefined, pid: string | undefined): number | undefined {
  if (usec === undefined || !/^[1-9]\d*$/.test(usec)) return undefined;
  if (pid !== undefined && pid !== String(process.pid)) return undefined;
  return Math.min(Number(usec) / 2000, MAX_WATCHDOG_MS);
}

/** The socket of the service manager. */
export class ServiceManager {
  readonly #send: ReturnType<typeof datagramsTo>;
  readonly #path: string;
  /** Fields that were not sent yet. */
  readonly #unsent = new Map<string, string>();
  #warned = false;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#send = datagramsTo(path);
    } catch {
      // Sending fails then, which is logged there.
    }
  }

  notify(fields: Fields): void {
    // A line end would start another field.
    for (const [name, value] of Object.entries(fields)) this.#unsent.set(name, printable(value));
    if (this.#unsent.size === 0) return;
    const lines = [...this.#unsent].map(([name, value]) => `${name}=${value}\n`);
    if (this.#send?.(Buffer.from(lines.join(""))) === true) return this.#unsent.clear();
    if (this.#warned) return;
    this.#warned = true;
    logger.warn(
      `can't notify the service manager at ${this.#path}: NOTIFY_SOCKET must name a datagram socket that is listened on (systemd's Type=notify)`,
    );
  }
}
