import { expect, spyOn, test } from "bun:test";
import { logger } from "../../../src/base/logger.ts";
import { Told } from "../../../src/cluster/topology/told.ts";
import { limits } from "../../../src/config/limits.ts";

test("each thing is told once for as long as it lasts, and of too many the oldest is forgotten", () => {
  using warn = spyOn(logger, "warn").mockImplementation(() => undefined);
  const told = new Told();
  told.warn("first", "it is away");
  told.warn("first", "it is away");
  expect(warn).toHaveBeenCalledTimes(1);
  told.over("first");
  told.warn("first", "it is away");
  expect(warn).toHaveBeenCalledTimes(2);
  for (let index = 0; index < limits.toldThings; index++) told.warn(`node ${index}`, "silent");
  expect([told.has("first"), told.has("node 0")]).toEqual([false, true]);
});
