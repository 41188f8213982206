import { readFileSync } from "node:fs";

/** Linux, include/net/tcp_states.h, from 1 on. */
const STATES = [
  "ESTABLISHED",
  "SYN-SENT",
  "SYN-RECV",
  "FIN-WAIT-1",
  "FIN-WAIT-2",
  "TIME-WAIT",
  "CLOSED",
  "CLOSE-WAIT",
  "LAST-ACK",
  "LISTEN",
  "CLOSING",
];

/**
 * The IPv4 sockets with one of these ports on either side, one a line: both ports, the state, and the bytes in both
 * queues. For the error of a test that waits in vain: it tells a byte that was not sent from one that was not read.
 * Connections that only linger (TIME-WAIT) are counted. Empty where there is no /proc.
 */
export function socketsOf(ports: readonly number[]): string[] {
  let lingering = 0;
  const lines = tableLines().flatMap((line) => {
    const [, local = "", remote = "", state = "", queues = ""] = line.trim().split(/\s+/);
    const [from, to] = [portOf(local), portOf(remote)];
    if (!ports.includes(from) && !ports.includes(to)) return [];
    const name = STATES[parseInt(state, 16) - 1] ?? state;
    if (name === "TIME-WAIT") {
      lingering++;
      return [];
    }
    const [unsent = 0, unread = 0] = queues.split(":").map((hex) => parseInt(hex, 16));
    return [`${from} to ${to} ${name}, ${unsent} B unsent, ${unread} B unread`];
  });
  return lingering === 0 ? lines : [...lines, `${lingering} in TIME-WAIT`];
}

function tableLines(): string[] {
  try {
    return readFileSync("/proc/net/tcp", "latin1").trim().split("\n").slice(1);
  } catch {
    return [];
  }
}

function portOf(address: string): number {
  return parseInt(address.split(":")[1] ?? "", 16);
}

/**
 * How long this process's main thread has run, and how long it was ready to run and got no CPU; in seconds. For the error
 * of a test that waits in vain: on a busy machine the second is nearly all of the time. Undefined where there is no /proc.
 */
export function cpuTime():
  { readonly ranSeconds: number; readonly waitedSeconds: number } | undefined {
  try {
    const [ran = 0, waited = 0] = readFileSync("/proc/self/schedstat", "latin1")
      .split(" ")
      .map(Number);
    return { ranSeconds: Math.round(ran / 1e9), waitedSeconds: Math.round(waited / 1e9) };
  } catch {
    return undefined;
  }
}
