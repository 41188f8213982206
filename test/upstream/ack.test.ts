import { describe, expect, test } from "bun:test";
import { Ack, type Acked } from "../../src/upstream/ack.ts";

/** A log and an archive whose cursors are moved by hand, and what is told of them. */
function acked(ack: Acked = "written") {
  const log = {
    writtenOffset: 100,
    durableOffset: 100,
    syncs: 0,
    sync: async () => void log.syncs++,
  };
  const told: number[] = [];
  const archive = {
    archivedOffset: 0,
    wanted: [] as number[],
    wantArchived: (offset: number) => void archive.wanted.push(offset),
    onArchived: () => undefined as void,
  };
  const acks = new Ack(ack, { acknowledge: (offset) => void told.push(offset) }, archive);
  acks.follow(log);
  const move = (cursors: Partial<Pick<typeof log, "writtenOffset" | "durableOffset">>) => {
    Object.assign(log, cursors);
    acks.moved();
  };
  return { acks, log, archive, told, move };
}

describe("GETACK", () => {
  test("is answered at once where everything is written, else as soon as it is", () => {
    const { acks, told, move } = acked();
    acks.ask(100);
    acks.ask(150);
    expect(told).toEqual([100]);
    move({ writtenOffset: 149 });
    expect(told).toEqual([100]);
    move({ writtenOffset: 160 });
    move({ writtenOffset: 170 });
    expect(told).toEqual([100, 160]);
  });

  test("that comes before the previous offset is reached delays no answer", () => {
    const { acks, told, move } = acked();
    // The disk stays a hundred bytes behind what comes in.
    for (let written = 100; written < 1000; written += 50) {
      acks.ask(written + 100);
      move({ writtenOffset: written });
    }
    expect(told.length).toBeGreaterThan(5);
    expect(
      told.every((offset, index) => offset >= 200 && offset > (told[index - 1] ?? 0)),
    ).toBeTrue();
    // The last one is answered, too.
    move({ writtenOffset: 1050 });
    expect(told.at(-1)).toBe(1050);
  });

  test("that asks for archived bytes has them synced and sent, and waits until the archive has them", () => {
    const { acks, log, archive, told, move } = acked("archived");
    acks.send();
    expect(told).toEqual([0]);
    acks.ask(200);
    move({ writtenOffset: 250 });
    expect(log.syncs).toBeGreaterThan(0);
    expect(archive.wanted.at(-1)).toBe(200);
    move({ durableOffset: 250 });
    archive.archivedOffset = 199;
    archive.onArchived();
    // What is durable is told as such, and no more is acknowledged than the archive has.
    expect(told.every((offset) => offset <= 199)).toBeTrue();
    archive.archivedOffset = 250;
    archive.onArchived();
    expect(told.at(-1)).toBe(250);
  });

  test("never more than the log that is followed has is acknowledged as archived", () => {
    const { acks, archive, told } = acked("archived");
    archive.archivedOffset = 500;
    acks.ask(100);
    expect(told).toEqual([100]);
  });

  test("that asks for durable bytes begins a sync as soon as its first offset is written", () => {
    const { acks, log, told, move } = acked("durable");
    acks.ask(200);
    acks.ask(300);
    move({ writtenOffset: 200 });
    expect([log.syncs, told]).toEqual([1, []]);
    move({ durableOffset: 200 });
    expect(told).toEqual([200]);
  });

  test("in a history with lower offsets doesn't wait for one of another history", () => {
    const { acks, log, told, move } = acked();
    acks.ask(5000);
    log.writtenOffset = log.durableOffset = 10;
    acks.follow(log);
    acks.ask(30);
    move({ writtenOffset: 30 });
    expect(told).toEqual([30]);
  });
});
