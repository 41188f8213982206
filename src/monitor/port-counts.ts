/** What the port has counted since the start, or since CONFIG RESETSTAT. */
export interface PortCounts {
  commands: number;
  connections: number;
  rejected: number;
  /** From clients and to them, those that sync from here among them. */
  inputBytes: number;
  outputBytes: number;
}

export function noCounts(): PortCounts {
  return { commands: 0, connections: 0, rejected: 0, inputBytes: 0, outputBytes: 0 };
}
