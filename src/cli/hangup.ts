import { closeSync, openSync, readFileSync } from "node:fs";

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

/** Whether this process has a terminal that controls it: one that is closed is none any more, as /dev/tty then says (tty(4)). */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}
