import { expect, test } from "bun:test";
import {
  commonWindow,
  lastMoment,
  refuseOutside,
  type ShardWindow,
  silenceAt,
} from "../../../src/cluster/restore/shard-window.ts";

const window = (fromMs: number, lastMs: number, untilMs = lastMs): ShardWindow => ({
  fromMs,
  lastMs,
  untilMs,
});
const at = (seconds: number) => seconds * 1_000;

test("the last moment is the newest byte of all, unless a shard was away by then", () => {
  expect(lastMoment([window(0, at(100)), window(0, at(91))])).toBe(at(100));
  expect(lastMoment([window(0, at(100)), window(0, at(60))])).toBe(at(60));
});

test("a moment that a shard doesn't keep is refused, with its window and the one that all have", () => {
  const windows = new Map([
    [1, window(at(10), at(100), at(200))],
    [2, window(at(50), at(95), at(200))],
  ]);
  expect(() => refuseOutside(at(150), windows)).not.toThrow();
  expect(() => refuseOutside(at(20), windows)).toThrow(
    "1970-01-01T00:00:20.000Z is not kept by shard 0002, which keeps 1970-01-01T00:00:50.000Z to 1970-01-01T00:01:35.000Z; all shards keep 1970-01-01T00:00:50.000Z to 1970-01-01T00:01:40.000Z",
  );
  expect(() => refuseOutside(at(20), new Map([[3, undefined]]))).toThrow(
    /shard 0003.*keeps no moment/,
  );
});

test("windows that share no moment are told so", () => {
  expect(commonWindow([window(0, at(10)), window(at(50), at(60))])).toBe(
    "there is no moment that all shards keep",
  );
});

test("a shard that was silent for longer than a primary ever is, is told", () => {
  expect(silenceAt(2, 0, 11_000)).toBeUndefined();
  expect(silenceAt(2, undefined, 99_000)).toBeUndefined();
  expect(silenceAt(2, 0, 14_000)).toBe(
    "shard 0002 has nothing of the 14 s before that moment: nothing came from its primary, or its link was down",
  );
});
