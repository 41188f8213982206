import { crc64 } from "../../../src/rdb/crc64.ts";
import {
  encodeChecksum,
  encodeEntryHead,
  encodeRdbHead,
  encodeSelect,
  RDB_END,
} from "../../../src/rdb/encode.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";
import { REPLID } from "../../integration/bad-input-rig.ts";
import { bulkPayload, fakePrimary, standardHandshake } from "../../support/fake-primary.ts";
import { follow } from "../../support/following.ts";
import { str } from "../../support/rdb-bytes.ts";
import { encodeCommand } from "../../support/resp.ts";
import type { TempDir } from "../../support/temp.ts";
import { until } from "../../support/wait.ts";

export const BASE_OFFSET = 100;

/** A string in the snapshot. */
export interface MadeKey {
  readonly key: string | Uint8Array;
  readonly value: string;
  readonly db?: number;
  readonly expiresAtMs?: number;
}

export type MadeCommand = readonly (string | number | Uint8Array)[];

const OPCODE_STRING = 0;
/** An RDB with these strings, in the order of their databases. */
export function madeRdb(keys: readonly MadeKey[], redisVersion = "7.0.15"): Uint8Array {
  const head = encodeRdbHead({ magic: "REDIS", version: 10 }, [["redis-ver", redisVersion]]);
  const entries = keys.flatMap(({ key, value, db = 0, expiresAtMs }) => {
    const rare = { idleSeconds: undefined, frequency: undefined };
    return [
      encodeSelect(db),
      encodeEntryHead({ key: Buffer.from(key), opcode: OPCODE_STRING, expiresAtMs, ...rare }),
      str(value),
    ];
  });
  const all = Buffer.concat([head, ...entries, RDB_END]);
  return Buffer.concat([all, encodeChecksum(crc64(all))]);
}

/** Makes a data directory whose one generation has this snapshot and this log. @returns the offset at its end. */
export async function makeHistory(
  dir: TempDir,
  rdb: Uint8Array,
  commands: readonly MadeCommand[],
): Promise<number> {
  await using primary = fakePrimary(async (peer) => {
    await standardHandshake(peer, { replid: REPLID, offset: BASE_OFFSET });
    await peer.send(bulkPayload(rdb));
  });
  await using replica = follow(primary.url, realDisk, dir, { fsync: "always" });
  await replica.connected();
  const stream = Buffer.concat(commands.map((words) => encodeCommand(words)));
  const end = BASE_OFFSET + stream.length;
  await primary.peers[0]!.send(stream);
  await until(() => replica.replica.log?.durableOffset === end, { what: "a sync" });
  await replica.stop();
  return end;
}
