import { readFileSync } from "node:fs";

/**
 * Whether SIGHUP was already ignored when this process started, as under nohup; it must then stay ignored.
 * Only Linux can tell; elsewhere the answer is no.
 */
export function isHangupIgnored(): boolean {
  try {
    const status = readFileSync("/proc/self/status", "latin1");
    const mask = /^SigIgn:\s*([\da-f]+)$/m.exec(status)?.[1] ?? "0";
    // The lowest bit is signal 1, SIGHUP (proc_pid_status(5)).
    return (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    return false;
  }
}
