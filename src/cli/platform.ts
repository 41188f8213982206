/**
 * Returns what to say at the start of a command that keeps data, where this isn't Linux; undefined where it is. Each part has
 * its own way to do without: an ordinary write in place of O_DIRECT, a boot id that no start has twice, a password that stays
 * in the list of processes.
 * @param platform as Node names it: "darwin".
 */
export function withoutLinux(platform: string): string | undefined {
  if (platform === "linux") return undefined;
  return `this is ${platform}, and replica is tested on Linux alone: here nothing is written past the page cache, a sync may end in the drive's own memory, every start counts as one after a power cut (what follows the last mark is fetched again), and a password in a URL stays in the process list`;
}
