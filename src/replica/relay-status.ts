import type { Offset } from "../base/history.ts";
import type { DownstreamState } from "../downstream/downstream.ts";
import type { Relay } from "../downstream/relay.ts";

export interface DownstreamStatus {
  readonly ip: string;
  readonly port: number;
  readonly state: DownstreamState;
  readonly ackedOffset: Offset;
  readonly lagSeconds: number;
}

/** The replicas that are fed from here. */
export interface RelayStatus {
  readonly downstreams: readonly DownstreamStatus[];
  readonly countByState: Readonly<Record<DownstreamState, number>>;
  /** How far the online replica that is furthest behind is behind the stream's end; 0 without one. */
  readonly lagBytes: number;
  /** Since the start: bytes sent, syncs granted, and partial resyncs refused. */
  readonly counts: {
    readonly snapshot: number;
    readonly stream: number;
    readonly full: number;
    readonly partial: number;
    readonly refused: number;
  };
}

/** The replicas that are fed from here, as of now. */
export function relayStatus(relay: Relay): RelayStatus {
  return {
    downstreams: [...relay.downstreams].map(
      ({ ip, listeningPort, state, ackedOffset, lagSeconds }) => {
        return { ip, port: listeningPort, state, ackedOffset, lagSeconds };
      },
    ),
    countByState: relay.countByState(),
    lagBytes: relay.lagBytes,
    counts: { ...relay.counts },
  };
}
