import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import type { Encryption } from "../../../src/archive/format/encryption.ts";
import {
  ArchiveRetention,
  type ArchiveRetentionOptions,
  type Removed,
} from "../../../src/archive/retention/archive-retention.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { type Shelf, never } from "../reader/rig.ts";
import {
  type GenerationPlan,
  writeArchive,
  writeGeneration,
  type WrittenGeneration,
} from "../../support/written-archive.ts";

export const DAY = 86_400_000;

/** A snapshot: bytes and their checksum. */
export function rdbOf(text: string): Buffer {
  const bytes = Buffer.from(text);
  const sum = Buffer.alloc(8);
  sum.writeBigUInt64LE(crc64(bytes));
  return Buffer.concat([bytes, sum]);
}

/** What to write, with its times in days before now. */
export interface AgedPlan extends Partial<GenerationPlan> {
  /** When its base was stored, and its last object. */
  readonly from: number;
  readonly to: number;
  readonly encryption?: Encryption | undefined;
}

/** An archive on a shelf whose objects are of any age. */
export class AgedArchive {
  readonly shelf: Shelf;
  #count = 0;

  private constructor(shelf: Shelf) {
    this.shelf = shelf;
  }

  static async on(shelf: Shelf): Promise<AgedArchive> {
    await writeArchive(shelf.store);
    return new AgedArchive(shelf);
  }

  /** Sets how many days ago the store took an object. */
  age(key: string, days: number): void {
    const { server, store } = this.shelf;
    const atMs = Date.now() - days * DAY;
    if (server === undefined) {
      fs.utimesSync(`${fileURLToPath(store.url)}/${key}`, atMs / 1000, atMs / 1000);
      return;
    }
    const whole = `archive/${key}`;
    server.objects.set(whole, { bytes: server.objects.get(whole)!.bytes, atMs });
  }

  /** Lets all objects become so much older. */
  pass(days: number): void {
    const { server, store } = this.shelf;
    for (const key of this.keys()) {
      const atMs =
        server?.objects.get(`archive/${key}`)?.atMs ??
        fs.statSync(`${fileURLToPath(store.url)}/${key}`).mtimeMs;
      this.age(key, (Date.now() - atMs) / DAY + days);
    }
  }

  keys(within = ""): string[] {
    return this.shelf.objects.keys().filter((key) => key.includes(within));
  }

  async put(key: string, days: number): Promise<void> {
    this.shelf.objects.set(key, Buffer.from("what somebody put there"));
    this.age(key, days);
  }

  /** Writes a generation; its log has three segments. */
  async write({ from, to, ...plan }: AgedPlan): Promise<WrittenGeneration> {
    const seed = ++this.#count;
    const written = await writeGeneration(this.shelf.store, {
      rdb: rdbOf(`REDIS0011 generation ${seed} `.repeat(20)),
      pieceBytes: 200,
      stream: Buffer.alloc(30, "s"),
      cuts: [10, 20, 30],
      baseOffset: 1_000 + seed * 100,
      // By names and documents all of them are old: what the store says decides.
      startedMs: Date.now() - 1_000 * DAY - from * DAY,
      isSealed: true,
      seed,
      ...plan,
    });
    for (const key of this.keys(written.name)) {
      const isBase = /base|generation\.json/.test(key.slice(key.indexOf(written.name)));
      this.age(key, isBase ? from : to);
    }
    return written;
  }

  /** Generations of one data directory, a day each; the last one is current. Their names, oldest first. */
  async daily(
    lineage: string,
    oldestDays: number,
    plan: Partial<AgedPlan> = {},
  ): Promise<string[]> {
    const names: string[] = [];
    for (let from = oldestDays; from >= 0; from--) {
      const { name } = await this.write({
        from: from + 0.5,
        to: Math.max(0, from - 0.5),
        lineage: { name: lineage, generation: oldestDays - from },
        isSealed: from > 0,
        ...plan,
      });
      names.push(name);
    }
    return names;
  }

  retention(options: Partial<ArchiveRetentionOptions> = {}): ArchiveRetention {
    const { store, clock } = this.shelf;
    return new ArchiveRetention({ store, clock, keepForMs: 7 * DAY, ...options });
  }

  async run(options: Partial<ArchiveRetentionOptions> = {}): Promise<Removed> {
    return await this.retention(options).runOnce(never);
  }
}
