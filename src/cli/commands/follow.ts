import { ReplicaError, usageError } from "../../base/errors.ts";
import { parsePrimarySource } from "../../config/primary-source.ts";
import { DEFAULT_URL } from "../../config/primary-url.ts";
import { type FillingWatch, runReplicaProcess } from "../../program/replica-process.ts";
import type { Replica } from "../../replica/replica.ts";
import type { CommandContext } from "./command.ts";
import { momentOf, momentOptions } from "./moment-options.ts";
import { watchTransfer } from "./watch-transfer.ts";

/** `replica [follow] [URL]`: follows a primary until stopped. */
export async function follow(context: CommandContext): Promise<number> {
  const { settings, args, options, env, signal, stderr } = context;
  const source = parsePrimarySource(args[0] ?? DEFAULT_URL);
  const isOffline = options.has("offline");
  if (!isOffline) refuseMoment(options);
  const offline = isOffline ? await momentOf(context, settings.dir) : undefined;
  const watch = (replica: Replica) => {
    const shown = () => (replica.renewal.state.at === "transfer" ? replica.renewal : replica).state;
    return watchTransfer(shown, stderr, settings.progress);
  };
  try {
    // Elsewhere, progress is logged.
    const isShown = settings.progress && stderr.isTty;
    const watchFilling = isShown ? async () => await fillingProgress(stderr) : undefined;
    await runReplicaProcess({ source, settings, offline, env, watch, watchFilling }, signal);
  } catch (error) {
    // Also while it starts.
    if (!(signal.aborted && error instanceof ReplicaError && error.code === "STOPPED")) throw error;
  }
  return 0;
}

/** Progress brings Node's streams with it, and a start that fetches nothing has to be quick. */
async function fillingProgress(stderr: CommandContext["stderr"]): Promise<FillingWatch> {
  const { fileProgress } = await import("./file-progress.ts");
  return fileProgress(stderr, true);
}

/** @throws ReplicaError USAGE where a moment is chosen, which --offline alone can serve. */
function refuseMoment(options: CommandContext["options"]): void {
  const given = momentOptions.find(({ name }) => options.has(name));
  if (given === undefined) return;
  throw usageError(`--${given.name} needs --offline: a replica that follows a primary moves on`);
}
