import { expect, test } from "bun:test";
import { limits } from "../../../src/config/limits.ts";
import { Rounds } from "../../../src/port/clients/rounds.ts";
import { until } from "../../support/wait.ts";

/** As a slow command does. */
function takeLongerThanARound(): void {
  for (const endMs = performance.now() + limits.roundMs; performance.now() <= endMs;);
}

/** What may wait for a turn. */
const called = (name: string) => ({ name });

test("all else goes on between two rounds, however many wait", async () => {
  const order: string[] = [];
  const rounds = new Rounds<{ name: string }>(({ name }) => {
    takeLongerThanARound();
    order.push(name);
    setImmediate(() => order.push("else"));
    return "answered";
  });
  for (const name of ["a", "b", "c"]) rounds.add(called(name));
  await until(() => order.length === 6, { what: "all of them" });
  expect(order).toEqual(["a", "else", "b", "else", "c", "else"]);
});

test("who needs another turn has it after those that wait; who left has none", async () => {
  const order: string[] = [];
  const turns = { a: 3, b: 2, c: 1, d: 1 };
  const rounds = new Rounds<{ name: keyof typeof turns }>(({ name }) => {
    order.push(name);
    return --turns[name] > 0 ? "unfinished" : "answered";
  });
  const [a, b, c, d] = (["a", "b", "c", "d"] as const).map((name) => ({ name }));
  // One that waits already keeps its place.
  for (const one of [a!, b!, c!, d!, a!]) rounds.add(one);
  rounds.remove(c!);
  await until(() => order.length === 6, { what: "all of them" });
  expect(order.toSorted().join("")).toBe("aaabbd");
  expect(order.slice(0, 3)).toEqual(["a", "b", "d"]);
});

test("a crowd whose turns take long holds up no one with a short turn, and is served meanwhile", async () => {
  const order: string[] = [];
  const crowd = Array.from({ length: 20 }, () => called("slow"));
  const quick = called("quick");
  // By then each of them is known to be slow.
  const known = 2 * crowd.length;
  const slowTurns = () => order.filter((name) => name === "slow").length;
  const rounds = new Rounds<{ name: string }>((one) => {
    if (one !== quick) takeLongerThanARound();
    order.push(one.name);
    if (order.length === known) rounds.add(quick);
    return slowTurns() < known + 10 ? "unfinished" : "answered";
  });
  for (const one of crowd) rounds.add(one);
  await until(() => slowTurns() >= known + 10, { what: "some rounds" });
  expect(order.slice(0, known + 2)).toContain("quick");
});
