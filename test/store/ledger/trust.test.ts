import { expect, test } from "bun:test";
import {
  countsPastLastMark,
  currentBootId,
  parseTrust,
  type Trust,
  trustText,
} from "../../../src/store/ledger/trust.ts";

const BOOT = "8a7c6a1e-93ab-4f5e-8d0e-2b8f0f6b1c11";

/** The texts that earlier versions wrote into table `boot`: they are part of the format. */
const texts: [text: string, trust: Trust, counts: boolean][] = [
  [BOOT, { kind: "running", bootId: BOOT }, true],
  ["another boot", { kind: "running", bootId: "another boot" }, false],
  [`unknown ${BOOT}`, { kind: "running", bootId: `unknown ${BOOT}` }, false],
  ["stopped", { kind: "stopped" }, false],
  ["distrusted", { kind: "distrusted" }, false],
];

test.each(texts)("reads and writes %s, and says what counts after it", (text, trust, counts) => {
  expect(parseTrust(text)).toEqual(trust);
  expect(trustText(trust)).toBe(text);
  expect(countsPastLastMark(trust, BOOT)).toBe(counts);
});

test("nothing counts past the last mark where nothing was kept", () => {
  expect(countsPastLastMark(undefined, BOOT)).toBe(false);
});

test("the boot id stays the same within a boot", () => {
  if (process.platform === "linux") expect(currentBootId()).toBe(currentBootId());
});
