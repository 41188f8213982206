import * as fs from "node:fs";

/**
 * What the last process to use a data directory left behind. It decides how much of the log the next
 * start keeps. Table `boot` of replica.db holds it as one word of text.
 */
export type Trust =
  /** It runs, or was killed, in the boot of this id: within that boot the kernel has every written byte. */
  | { readonly kind: "running"; readonly bootId: string }
  /** It stopped with its whole log covered by marks: what lies past the last mark, someone else wrote. */
  | { readonly kind: "stopped" }
  /** A write or an fsync of the log failed: nothing past the last mark is safe to keep. */
  | { readonly kind: "distrusted" };

/** Parses the text of table `boot`. Anything but the two words is a boot id. */
export function parseTrust(text: string): Trust {
  if (text === "stopped" || text === "distrusted") return { kind: text };
  return { kind: "running", bootId: text };
}

/** The text of table `boot`, as `parseTrust` reads it. */
export function trustText(trust: Trust): string {
  return trust.kind === "running" ? trust.bootId : trust.kind;
}

/**
 * Whether the bytes past the last mark count. After a power cut (another boot id) they may be missing or
 * torn; without a record nothing was ever kept.
 */
export function countsPastLastMark(trust: Trust | undefined, bootId: string): boolean {
  return trust?.kind === "running" && trust.bootId === bootId;
}

/** The id of this boot: after a power cut, or a reboot, the system has another one. */
export function currentBootId(): string {
  try {
    return fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    // A system without boot ids: every start counts as one after a power cut.
    return `unknown ${crypto.randomUUID()}`;
  }
}
