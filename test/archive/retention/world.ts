import type { Random } from "../../../src/demo/random.ts";
import type { SegmentHeader } from "../../../src/archive/format/objects.ts";
import {
  writeArchive,
  writeGeneration,
  type WrittenGeneration,
} from "../../support/written-archive.ts";
import { MemoryStore } from "./memory-store.ts";
import { rdbOf } from "./rig.ts";

export const HOUR = 3_600_000;
export const START = Date.UTC(2026, 0, 1);

/** A history that a primary's data has had: a byte an hour. Those of a clone, or after a promotion, have a parent. */
interface Stream {
  readonly replid: string;
  /** The hour in which it begins, and what it goes on with, up to there. */
  readonly fromHour: number;
  readonly parent: Stream | undefined;
  /** The hour in which its stream began at offset 0. */
  readonly zeroHour: number;
}

/** A generation as it truly was. */
export interface TrueGeneration {
  readonly written: WrittenGeneration;
  readonly directory: number;
  readonly number: number;
  readonly fromHour: number;
  readonly toHour: number;
  readonly streams: readonly Stream[];
  /** Its objects, as they were written. */
  readonly objects: ReadonlySet<string>;
}

/** A data directory, and whom it follows. */
interface Directory {
  readonly id: number;
  readonly lineage: string;
  stream: Stream;
  generations: number;
  /** How far its clock is ahead, in hours, and how late its objects are stored. */
  readonly aheadHours: number;
  readonly lateHours: number;
}

/** Primaries, their clones, and replicas of all of them that write to one archive, for some hundred hours. */
export class World {
  readonly store = new MemoryStore();
  readonly generations: TrueGeneration[] = [];
  /** Folders of writers that died before their base was whole. */
  readonly halfMade: { readonly name: string; readonly objects: readonly string[] }[] = [];
  readonly #random: Random;
  #replids = 0;
  #seed = 0;
  #directories = 0;

  private constructor(random: Random) {
    this.#random = random;
  }

  static async make(random: Random, hours: number): Promise<World> {
    const world = new World(random);
    world.store.nowMs = START;
    await writeArchive(world.store);
    const directories = Math.floor(1 + random.below(3));
    const all: { readonly directory: Directory; atHour: number }[] = [];
    for (let n = 0; n < directories; n++)
      all.push({ directory: world.#directory(world.#stream(0)), atHour: random.below(20) });
    // A second replica of a primary, a clone of it, or a container that comes after one.
    for (const { directory } of all.slice()) {
      for (let more = random.below(4); more > 0; more--) {
        const atHour = random.below(hours);
        all.push({ directory: world.#directory(directory.stream), atHour });
      }
    }
    for (const { directory, atHour } of all) await world.#live(directory, atHour, hours);
    return world;
  }

  #stream(fromHour: number, parent?: Stream): Stream {
    const replid = (this.#replids++).toString(36).padStart(40, "0");
    return { replid, fromHour, parent, zeroHour: parent?.zeroHour ?? fromHour - 5 };
  }

  #directory(stream: Stream): Directory {
    const random = this.#random;
    return {
      id: this.#directories++,
      lineage: `d${this.#directories}`,
      stream,
      generations: 0,
      aheadHours: random.below(4) === 0 ? random.below(60) - 30 : 0,
      lateHours: random.below(4) === 0 ? random.below(40) : 0,
    };
  }

  /** Writes generations until the directory is lost, or time is over. */
  async #live(directory: Directory, fromHour: number, hours: number): Promise<void> {
    const random = this.#random;
    const endHour = random.below(2) === 0 ? fromHour + random.below(hours / 2) : hours;
    for (let at = fromHour; at < Math.min(endHour, hours);) {
      const to = Math.min(at + 1 + random.below(30), endHour, hours);
      const isLast = to >= Math.min(endHour, hours);
      await this.#generation(directory, at, to, isLast);
      // A full resync takes a while; an adopted snapshot doesn't.
      at = to + random.below(3);
      if (random.below(4) === 0) directory.stream = this.#stream(at);
    }
  }

  async #generation(
    directory: Directory,
    fromHour: number,
    toHour: number,
    isLast: boolean,
  ): Promise<void> {
    const random = this.#random;
    const streams = [directory.stream];
    const histories: SegmentHeader["histories"][number][] = [];
    const { zeroHour } = directory.stream;
    if (toHour - fromHour > 4 && random.below(3) === 0) {
      // A promotion: of this one's primary, or of a clone.
      const atHour = fromHour + 1 + random.below(toHour - fromHour - 2);
      const next = this.#stream(atHour, directory.stream);
      histories.push({ replid: next.replid, fromOffset: atHour - zeroHour });
      streams.push(next);
      directory.stream = next;
    }
    const baseOffset = fromHour - zeroHour;
    const bytes = toHour - fromHour;
    const number = directory.generations++;
    const before = new Set(this.store.objects.keys());
    const written = await writeGeneration(this.store, {
      rdb: rdbOf(`snapshot ${directory.id} ${number}`.padEnd(90, ".")),
      pieceBytes: 40,
      stream: Buffer.alloc(bytes, "s"),
      cuts: Array.from({ length: Math.ceil(bytes / 6) }, (_, n) => Math.min(bytes, 6 * (n + 1))),
      marks: [],
      histories,
      baseOffset,
      replid: streams[0]!.replid,
      startedMs: START + (fromHour + directory.aheadHours) * HOUR,
      isSealed: !isLast,
      seed: ++this.#seed,
      ...(random.below(5) === 0
        ? {}
        : { lineage: { name: directory.lineage, generation: number } }),
    });
    const keys = [...this.store.objects.keys()].filter((key) => !before.has(key));
    const dead = isLast && random.below(3) === 0;
    for (const key of keys) {
      const at = segmentEnd(key);
      const hour =
        at === undefined ? (key.endsWith("sealed.json") ? toHour : fromHour) : zeroHour + at;
      const atMs = START + (hour + directory.lateHours + random.below(100) / 100) * HOUR;
      const { bytes: body } = this.store.objects.get(key)!;
      if (dead && /log|sealed|base\.json/.test(key)) this.store.objects.delete(key);
      else this.store.objects.set(key, { bytes: body, atMs });
    }
    const { name } = written;
    const objects = keys.filter((key) => this.store.objects.has(key));
    if (dead) this.halfMade.push({ name, objects });
    else
      this.generations.push({
        written,
        directory: directory.id,
        number,
        fromHour,
        toHour,
        streams,
        objects: new Set(objects),
      });
  }
}

function segmentEnd(key: string): number | undefined {
  const match = /\/log\/\d{16}-(\d{16})-/.exec(key);
  return match === null ? undefined : Number(match[1]);
}

/** The stream that a generation was in at some hour. */
function streamAt({ streams }: TrueGeneration, hour: number): Stream {
  return streams.findLast(({ fromHour }) => fromHour < hour) ?? streams[0]!;
}

/** Whether the data at the end of `one` became that of `other`. */
function isDescendant(one: TrueGeneration, other: TrueGeneration): boolean {
  if (other.directory === one.directory) return other.number >= one.number;
  const end = streamAt(one, one.toHour);
  let upToHour = other.toHour;
  for (
    let at: Stream | undefined = streamAt(other, other.toHour);
    at !== undefined;
    at = at.parent
  ) {
    if (at === end) return one.toHour <= upToHour;
    upToHour = at.fromHour;
  }
  return false;
}

/** For each generation, all that tell of the same data later on. */
export function successors(
  all: readonly TrueGeneration[],
): Map<TrueGeneration, Set<TrueGeneration>> {
  const direct = new Map(all.map((one) => [one, all.filter((other) => isDescendant(one, other))]));
  return new Map(
    all.map((one) => {
      const found = new Set([one]);
      for (const each of found) for (const next of direct.get(each)!) found.add(next);
      return [one, found];
    }),
  );
}
