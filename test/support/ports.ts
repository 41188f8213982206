import { BUS_OFFSET } from "../../src/cluster/slots/nodes-conf.ts";

/** Ports from one number on; each process has its own share of them. */
interface Range {
  readonly first: number;
  readonly each: number;
  taken: number;
}

const PROCESSES = 65;
// All are below Linux's ephemeral ports, which begin at 32768: any outgoing connection could take one of those.
// The nodes of clusters and, above them, their buses; nothing else is given out of either.
const nodes = rangeOf(10_000, 40);
const single = rangeOf(12_600, 110);
const more = rangeOf(22_600, 150);

function rangeOf(from: number, each: number): Range {
  return { first: from + (process.pid % PROCESSES) * each, each, taken: 0 };
}

/**
 * Returns a TCP port on which nobody listens. Each process has its own ranges, so two tests don't get the
 * same port; within it the ports are given out in turn.
 * @throws Error if no port of the range is free.
 */
export function freePort(hostname = "127.0.0.1"): number {
  const range = single.taken > more.taken ? more : single;
  return nextOf(range, (port) => isFree(hostname, port));
}

/** A port for a node of a cluster that has its bus where servers have it by default: both are free. */
export function freeNodePort(): number {
  return nextOf(nodes, (port) =>
    [port, port + BUS_OFFSET].every((one) => isFree("127.0.0.1", one)),
  );
}

/** The first of so many ports in a row, each fit for a node of a cluster. @throws Error as `freePort`. */
export function freePortsInARow(count: number): number {
  for (;;) {
    const ports = Array.from({ length: count }, freeNodePort);
    if (ports.every((port, index) => port === ports[0]! + index)) return ports[0]!;
  }
}

function nextOf(range: Range, isFit: (port: number) => boolean): number {
  const { first, each } = range;
  for (let tries = 0; tries < each; tries++) {
    const port = first + (range.taken++ % each);
    if (isFit(port)) return port;
  }
  throw new Error(`no free port from ${first} to ${first + each - 1}`);
}

function isFree(hostname: string, port: number): boolean {
  try {
    Bun.listen({ hostname, port, socket: { data: () => undefined } }).stop(true);
    return true;
  } catch {
    return false;
  }
}
