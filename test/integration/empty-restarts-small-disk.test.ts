import { expect } from "bun:test";
import { smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp.ts";
import { worstDay } from "./empty-restarts-rig.ts";
import { fill, MIB, onSmallDisk } from "./small-disk-rig.ts";

/** The size of the data, and of what it is filled with wrongly. */
const DATA_MIB = 12;

onSmallDisk.each([
  { wrongMib: 11, saves: 3 },
  // Less than half: what was there before is still missed.
  { wrongMib: 5, saves: 6 },
])(
  "three empty restarts, a wrong fill of $wrongMib MiB and $saves BGSAVEs, on a disk with room for three snapshots",
  async ({ wrongMib, saves }) => {
    using temp = tempDir("worst-small-disk");
    using disk = smallDisk(temp.file("disk"), 3 * DATA_MIB * MIB + 6 * MIB);
    expect(disk).toBeDefined();
    const { kept, told } = await worstDay({
      kind: "redis-7.0",
      data: temp.file("disk", "data"),
      right: (primary) => fill(primary, DATA_MIB, 1),
      isFilledBefore: true,
      restarts: 3,
      wrong: (primary) => fill(primary, wrongMib, 2),
      saves,
    });
    // The oldest, of worth, stays while those behind it make room.
    expect(told).toMatch(/removed generations? [\d, ]+ ahead of time to make room/);
    expect(kept.length).toBeLessThan(4 + saves);
  },
);
