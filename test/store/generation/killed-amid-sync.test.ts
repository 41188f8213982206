import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { FakeMachine } from "../../support/fake-machine.ts";
import { type DiskOperation, FaultyDisk } from "../../support/faulty-disk.ts";
import { tempDir } from "../../support/temp.ts";
import { BASE_OFFSET, callbacks, clock, HEADER, keep } from "../restore/kept.ts";

/** A disk that knows what of one file its device has: a sync that fails takes the pages for written. */
class DeviceDisk extends FaultyDisk {
  /** What a power cut leaves of the file. */
  device = Buffer.alloc(0);
  /** The process dies amid the next sync of the file, and that fails; called then. */
  onDying: (() => void) | undefined;
  readonly #path: string;
  #dirty: { readonly at: number; readonly bytes: Buffer }[] = [];

  constructor(path: string) {
    super();
    this.#path = path;
  }

  #isIt(operation: DiskOperation, subject: number): boolean {
    return this.pathOf({ operation, subject }) === this.#path;
  }

  override async write(fd: number, buffers: Uint8Array[], position: number): Promise<void> {
    const bytes = Buffer.concat(buffers);
    await super.write(fd, buffers, position);
    if (this.#isIt("write", fd)) this.#dirty.push({ at: position, bytes });
  }

  override writeAtOnce(fd: number, bytes: Uint8Array, position: number): number {
    const copy = Buffer.from(bytes);
    const taken = super.writeAtOnce(fd, bytes, position);
    if (this.#isIt("writeAtOnce", fd))
      this.#dirty.push({ at: position, bytes: copy.subarray(0, taken) });
    return taken;
  }

  override async syncData(fd: number): Promise<void> {
    if (!this.#isIt("syncData", fd)) return super.syncData(fd);
    const dirty = this.#dirty.splice(0);
    if (this.onDying !== undefined) {
      this.onDying();
      return new Promise(() => undefined);
    }
    await super.syncData(fd);
    for (const { at, bytes } of dirty) {
      const grown = Buffer.alloc(Math.max(this.device.length, at + bytes.length));
      this.device.copy(grown);
      bytes.copy(grown, at);
      this.device = grown;
    }
  }
}

test("after a kill amid a sync that failed, what no mark covers is written again before one does", async () => {
  using dir = tempDir();
  const path = dir.file("generations/0000000001/appendonly.aof.1.incr.aof");
  const disk = new DeviceDisk(path);
  const killed = new DataDirectory(dir.path, disk, clock, new FakeMachine());
  const log = await keep(killed, disk);
  log.append(Buffer.from("marked, "));
  await log.flushed();
  await log.sync();
  log.append(Buffer.from("unmarked"));
  await log.flushed();
  const died = Promise.withResolvers<void>();
  disk.onDying = died.resolve;
  void log.sync();
  await died.promise;
  killed.close();
  disk.onDying = undefined;
  const next = new DataDirectory(dir.path, disk, clock, new FakeMachine());
  const goesOn = (await next.openLog(callbacks()))!;
  expect(goesOn.writtenOffset).toBe(BASE_OFFSET + 16);
  goesOn.append(Buffer.from("!"));
  await goesOn.close();
  expect(goesOn.durableOffset).toBe(BASE_OFFSET + 17);
  const kept = Buffer.concat([HEADER, Buffer.from("marked, unmarked!")]);
  expect(disk.device.toString("latin1")).toBe(kept.toString("latin1"));
  expect(fs.readFileSync(path).equals(kept)).toBe(true);
  next.close();
});
