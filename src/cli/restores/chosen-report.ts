import { counted, formatBytes } from "../../base/quantity.ts";
import { formatOf } from "../../rdb/made-by.ts";
import type { ChosenFolder } from "../../inspect/chosen/chosen-folder.ts";
import type { ChosenKeys } from "../../inspect/chosen/chosen-keys.ts";
import { shownTime } from "../../store/restore/restore-point.ts";
import { type Checked, checkToJson, describeCheck } from "./after-restore.ts";

/** Keys that were chosen and written, and the generation that they come from, as people call it. */
export interface ChosenDone {
  readonly chosen: ChosenKeys;
  readonly folder: ChosenFolder;
  readonly from: string | number;
}

/** Says for people what was restored. */
export function describeChosen(done: ChosenDone, checked: Checked | undefined): string {
  const { chosen, folder, from } = done;
  const { offset, atMs } = chosen.about;
  const { dir, keys, expired, rdbBytes } = folder;
  const when = atMs === undefined ? "at an unknown time" : `as of ${shownTime(atMs)}`;
  const since = expired === 0 ? "" : `, ${expired} of them expired since`;
  const databases = Math.max(0, ...folder.databases.keys()) + 1;
  return `${dir}: ${counted(keys, "key")} of generation ${from} up to offset ${offset}, ${when}
  ${formatBytes(rdbBytes)} (${formatOf(chosen.header)})${since}; ${describeHow(chosen)}
  start a server on it: redis-server --dir ${dir} --appendonly yes${databases > 16 ? ` --databases ${databases}` : ""}
${checked === undefined ? "" : describeCheck(checked)}`;
}

function describeHow({ about: { how, pulledIn }, replayedCommands }: ChosenKeys): string {
  const others =
    pulledIn === 0 ? "" : `, with ${counted(pulledIn, "other key")} that they are made from`;
  switch (how) {
    case "base":
      return "as they stand in the snapshot, which no command up to there changes";
    case "replayed":
      return `by a replay of ${counted(replayedCommands ?? 0, "command")} on them${others}`;
    case "whole":
      return "by a replay of the whole log";
  }
}

/** The same for programs. */
export function chosenToJson(
  { chosen, folder, from }: ChosenDone,
  checked: Checked | undefined,
): unknown {
  const { offset, atMs, how, pulledIn } = chosen.about;
  return {
    dir: folder.dir,
    layout: folder.layout,
    generation: from,
    offset,
    time: atMs === undefined ? null : shownTime(atMs),
    keys: folder.keys,
    expired_keys: folder.expired,
    databases: Object.fromEntries([...folder.databases].map(([db, keys]) => [`db${db}`, keys])),
    rdb_bytes: folder.rdbBytes,
    rdb_format: formatOf(chosen.header),
    found_by: how,
    replayed_commands: chosen.replayedCommands ?? null,
    other_keys: pulledIn,
    unmatched: chosen.unmet,
    ...(checked && { check: checkToJson(checked) }),
  };
}
