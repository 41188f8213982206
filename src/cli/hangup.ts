import { readFileSync } from "node:fs";

/**
 * Whether SIGHUP was ignored when this process began, as by nohup: then it is to stay so. Linux tells;
 * elsewhere it is taken as not ignored.
 */
export function isHangupIgnored(): boolean {
  try {
    const status = readFileSync("/proc/self/status", "latin1");
    const mask = /^SigIgn:\s*([\da-f]+)$/m.exec(status)?.[1] ?? "0";
    // The lowest bit is signal 1, SIGHUP ("Linux, proc_pid_status(5)").
    return (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    return false;
  }
}
