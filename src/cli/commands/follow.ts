import { usageError } from "../../base/errors.ts";
import { parsePrimarySource } from "../../config/primary-source.ts";
import { DEFAULT_URL } from "../../config/primary-url.ts";
import { runReplicaProcess } from "../../program/replica-process.ts";
import type { Replica } from "../../replica/replica.ts";
import type { Wanted } from "../../store/restore/restore-point.ts";
import type { CommandContext } from "./command.ts";
import { momentOf, momentOptions } from "./moment-options.ts";
import { watchTransfer } from "./watch-transfer.ts";

/** `replica [follow] [URL]`: follows a primary until stopped. */
export async function follow({
  settings,
  args,
  options,
  env,
  signal,
  stderr,
}: CommandContext): Promise<number> {
  const source = parsePrimarySource(args[0] ?? DEFAULT_URL);
  const offline = offlineOf(options);
  const watch = (replica: Replica) => {
    const shown = () => (replica.renewal.state.at === "transfer" ? replica.renewal : replica).state;
    return watchTransfer(shown, stderr, settings.progress);
  };
  await runReplicaProcess({ source, settings, offline, env, watch }, signal);
  return 0;
}

/** The moment to serve with --offline; undefined without it. @throws ReplicaError USAGE. */
function offlineOf(options: CommandContext["options"]): Wanted | undefined {
  if (options.has("offline")) return momentOf(options);
  const given = momentOptions.find(({ name }) => options.has(name));
  if (given === undefined) return undefined;
  throw usageError(`--${given.name} needs --offline: a replica that follows a primary moves on`);
}
