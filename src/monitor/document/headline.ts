import { formatAge, formatBytes } from "../../base/quantity.ts";
import type { ReplicaStatus } from "../../replica/status.ts";
import type { Headline } from "../browser/document.ts";

/** A lag below this is what a replica has while all is well: marks are a second apart. */
const USUAL_LAG_SECONDS = 3;

/** What a headline is made of. */
export type Headlined = Pick<
  ReplicaStatus,
  | "isFollowing"
  | "isOffline"
  | "link"
  | "supply"
  | "staleFor"
  | "staleSeconds"
  | "servedOffset"
  | "cursors"
  | "durableAgeSeconds"
  | "bytesPerSecond"
  | "currentGeneration"
  | "primary"
>;

/**
 * The state of a replica in words, as one would tell it who has ten seconds.
 * @param whyNotReady undefined where it is ready.
 */
export function headlineOf(status: Headlined, whyNotReady: string | undefined): Headline {
  const { isFollowing, isOffline, link, supply, primary } = status;
  if (isOffline) return offline(status.servedOffset);
  if (!isFollowing) {
    const text = `It follows no primary since REPLICAOF NO ONE, and serves up to offset ${status.servedOffset ?? 0}.`;
    return { tone: "idle", state: "following nobody", text };
  }
  if (link.state === "transfer" || link.state === "receive-bulk-header") return receiving(status);
  const name = primary.name;
  if (link.state === "connected" && supply.trouble === undefined) {
    return following(status, whyNotReady);
  }
  const why =
    link.state === "connected"
      ? `${name} is connected, but nobody supplies it with data.`
      : `No data comes from ${name}; the link is in state ${link.state}.`;
  if (status.staleFor !== undefined) return { tone: "bad", state: status.staleFor, text: why };
  return { tone: "busy", state: "connecting", text: `${why} Nothing is kept yet.` };
}

function offline(servedOffset: number | undefined): Headline {
  const text =
    servedOffset === undefined
      ? "It was started with --offline, and nothing is served yet."
      : `It was started with --offline, follows no primary, and serves what is kept up to offset ${servedOffset}.`;
  return { tone: "idle", state: "serving offline", text };
}

function receiving({ link, bytesPerSecond, currentGeneration, primary }: Headlined): Headline {
  const kept =
    currentGeneration === undefined
      ? "Nothing is kept before it is whole."
      : `What generation ${currentGeneration.id} holds stays restorable meanwhile.`;
  const from = `from ${primary.name}`;
  if (link.transfer === undefined) {
    const preparing =
      link.preparingSeconds === undefined
        ? "has not begun to send it"
        : `is preparing it (fork), for ${formatAge(Math.floor(link.preparingSeconds))} so far`;
    const text = `A snapshot is on its way ${from}: the primary ${preparing}. ${kept}`;
    return { tone: "busy", state: "waiting for a snapshot", text };
  }
  const { readBytes, totalBytes, expectedBytes } = link.transfer;
  const rate = bytesPerSecond.received;
  const allBytes = totalBytes ?? expectedBytes;
  const [about, estimate] = totalBytes === undefined ? ["about ", " (estimate)"] : ["", ""];
  const left = allBytes === undefined || rate < 1 ? undefined : (allBytes - readBytes) / rate;
  const of = allBytes === undefined ? "" : ` of ${about}${formatBytes(allBytes)}`;
  const state = `receiving ${formatBytes(readBytes)}${of}`;
  const leftText =
    left === undefined ? "" : `, ${about}${formatAge(Math.ceil(left))} left${estimate}`;
  const text = `A snapshot comes ${from} at ${formatBytes(rate)}/s${leftText}. ${kept}`;
  return { tone: "busy", state: `${state}${leftText}`, text };
}

function following(
  { cursors, durableAgeSeconds, primary, bytesPerSecond }: Headlined,
  whyNotReady: string | undefined,
): Headline {
  const behind = cursors.received - cursors.durable;
  const from = `Following ${primary.name} at ${formatBytes(bytesPerSecond.received)}/s`;
  if (durableAgeSeconds > USUAL_LAG_SECONDS) {
    const tone = whyNotReady === undefined ? "busy" : "bad";
    const text = `${from}; ${formatBytes(behind)} are not durable yet.`;
    return { tone, state: `behind by ${formatAge(durableAgeSeconds)}`, text };
  }
  const text = `${from}; everything that came is durable, or will be within a second or two.`;
  // It follows, and something else is wrong: that is told beside it.
  return { tone: whyNotReady === undefined ? "good" : "bad", state: "following", text };
}
