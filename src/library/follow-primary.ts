import { realClock } from "../base/clock.ts";
import { parsePrimarySource } from "../config/primary-source.ts";
import { runEmbedded } from "../program/embedded-replica.ts";
import type { Replica } from "../replica/replica.ts";
import type { ReplicaStatus } from "../replica/status.ts";
import type { FollowEvent, FollowOptions, FollowStatus } from "./api/follow.d.ts";
import { followStatus } from "./follow-status.ts";
import { wantObject, wantText } from "./rejections.ts";
import { FOLLOWED, settingsOf } from "./settings.ts";

/** Cursors move with every write: that often they are told, in milliseconds. */
const LOOK_EVERY_MS = 200;

/** Who is told. */
export interface Listener {
  readonly onEvent: (event: FollowEvent) => void;
  /** Takes what tells how it stands, once that is known. */
  readonly onStatus: (status: () => FollowStatus) => void;
}

/**
 * Follows a primary until the signal aborts.
 * @throws ReplicaError USAGE for options that can't be; as `runEmbedded`; the signal's reason.
 */
export async function followPrimary(
  given: FollowOptions,
  signal: AbortSignal,
  listener: Listener,
): Promise<void> {
  const { url, ...options } = wantObject(given);
  const source = parsePrimarySource(wantText(url, "the option url"));
  wantText(options.dir, "the option dir");
  const settings = settingsOf({ ...options }, FOLLOWED);
  const isServing = options.port !== undefined;
  const watch = ({ replica, status, port }: Watched) => {
    const now = () => followStatus(status, settings.readyLagMs, port);
    listener.onStatus(now);
    const end = tell(replica, status, listener.onEvent);
    return () => {
      end();
      const last = now();
      listener.onStatus(() => last);
    };
  };
  await runEmbedded({ source, settings, env: process.env, isServing, watch }, signal);
}

interface Watched {
  readonly replica: Replica;
  readonly status: ReplicaStatus;
  readonly port: number | undefined;
}

/** Tells what happens to a replica. Returns a function that ends that. */
function tell(replica: Replica, status: ReplicaStatus, onEvent: Listener["onEvent"]): () => void {
  let state = "";
  let generation: number | undefined;
  let before = "";
  let readBytes: number | undefined;
  const look = () => {
    const atMs = realClock.now();
    const { link, currentGeneration: current } = status;
    if (link.state !== state) {
      state = link.state;
      onEvent({ type: "state", atMs, state: link.state });
    }
    if (current !== undefined && current.id !== generation) {
      generation = current.id;
      const { id, currentAtMs, baseOffset, rdbBytes, rdbCrc64 } = current;
      onEvent({ type: "generation", atMs, id, currentAtMs, baseOffset, rdbBytes, rdbCrc64 });
    }
    const { received, written, durable } = status.cursors;
    const cursors = `${received} ${written} ${durable}`;
    if (current !== undefined && cursors !== before) {
      before = cursors;
      onEvent({ type: "moved", atMs, received, written, durable });
    }
    if (link.transfer !== undefined && link.transfer.readBytes !== readBytes) {
      readBytes = link.transfer.readBytes;
      onEvent({ type: "transfer", atMs, ...link.transfer });
    }
  };
  replica.links.onMoved = look;
  replica.directory.onEvent = (kind, text) => {
    onEvent({ type: "event", atMs: realClock.now(), kind, text });
    look();
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  look();
  return () => {
    clearInterval(timer);
    replica.links.onMoved = () => undefined;
    replica.directory.onEvent = () => undefined;
    look();
  };
}
