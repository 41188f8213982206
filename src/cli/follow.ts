import { VERSION } from "../version.ts";
import { DEFAULT_URL, parsePrimaryUrl } from "../primary-url.ts";
import { realClock } from "../service/clock.ts";
import { assemble } from "../service/follow.ts";
import { realDisk } from "../store/disk.ts";
import type { CommandContext } from "./command.ts";

import { watchTransfer } from "./watch-transfer.ts";

/** `replica [follow] [URL]`: follows a primary until stopped. */
export async function follow({ settings, args, signal, stderr }: CommandContext): Promise<number> {
  const target = parsePrimaryUrl(args[0] ?? DEFAULT_URL);
  // Not closed: the system does so within the time that a stop may take, whatever the disk does.
  const { replica, run } = assemble(target, realDisk, realClock, settings, VERSION);
  const stopWatching = watchTransfer(() => replica.state, stderr, settings.progress);
  try {
    await run(signal);
  } finally {
    stopWatching();
  }
  return 0;
}
