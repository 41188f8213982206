import { encodeCommand } from "./resp.ts";

/** A generator of whole numbers from 0 to below `limit`. */
interface Random {
  below(limit: number): number;
}
/** A log of all that makes a guess go wrong: transactions, and values that look like commands. */
export function trickyLog(random: Random, commands: number): Buffer {
  const made: Uint8Array[] = [];
  let open = false;
  while (made.length < commands) {
    const kind = random.below(10);
    if (kind === 0 && !open) made.push(encodeCommand(["MULTI"]));
    if (kind === 1 && open) made.push(encodeCommand(["EXEC"]));
    if (kind === 0) open = true;
    if (kind === 1) open = false;
    if (kind === 2) made.push(encodeCommand(["SET", "key", "v".repeat(random.below(2_000))]));
    if (kind === 3) made.push(encodeCommand(["SET", "key", "\r\n*1\r\n$4\r\nEXEC\r\n*2\r\n$"]));
    if (kind === 4) made.push(encodeCommand(["SET", "key", "\r\n*1\r\n$4\r\nPING\r\n".repeat(3)]));
    if (kind === 5) made.push(encodeCommand(["SELECT", String(random.below(16))]));
    made.push(encodeCommand(["INCR", `counter:${random.below(1_000_000)}`]));
  }
  return Buffer.concat(made);
}
