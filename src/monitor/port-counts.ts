/** Counters of the port since the start, or since CONFIG RESETSTAT. */
export interface PortCounts {
  commands: number;
  connections: number;
  rejected: number;
  /** Clients that were disconnected because all together held too much memory. */
  evicted: number;
  /** From and to clients, including replicas of this one. */
  inputBytes: number;
  outputBytes: number;
}

export function noCounts(): PortCounts {
  return { commands: 0, connections: 0, rejected: 0, evicted: 0, inputBytes: 0, outputBytes: 0 };
}
