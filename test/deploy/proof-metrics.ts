import { join } from "node:path";

/** The script that proves a restore. */
export const proofScript = join(import.meta.dir, "../../deploy/replica-proof");
export const proofText = await Bun.file(proofScript).text();

/** The metrics that it writes; each has the label `source`. */
export const proofMetrics = Array.from(
  proofText.matchAll(/^ {2}metric (replica_\w+) /gm),
  ([, name]) => name!,
);
