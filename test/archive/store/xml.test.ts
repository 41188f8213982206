import { expect, test } from "bun:test";
import { childrenOf, parseXml, textOf } from "../../../src/archive/store/xml.ts";

test("reads elements, text and entities", () => {
  const root = parseXml(
    '<?xml version="1.0"?>\n<A xmlns="x"><B>1 &amp; &#50;&#x33; &lt;</B><C/><B a="b">x</B></A>\n',
  )!;
  expect(root.name).toBe("A");
  expect(textOf(root, "B")).toBe("1 & 23 <");
  expect(textOf(root, "C")).toBe("");
  expect(textOf(root, "D")).toBeUndefined();
  expect(childrenOf(root, "B").map(({ text }) => text)).toEqual(["1 & 23 <", "x"]);
});

test.each([
  ["", "nothing"],
  ["text", "text alone"],
  ["<A>", "an element without an end"],
  ["<A></B>", "another end"],
  ["</A>", "an end alone"],
  ["<A/><B/>", "two roots"],
  ["<A/>text", "text behind the root"],
  ["<!DOCTYPE A><A/>", "a DTD"],
  ['<!DOCTYPE a [<!ENTITY b "c">]><A>&b;</A>', "an entity of its own"],
  ["<A>&b;</A>", "an unknown entity"],
  ["<A>&</A>", "a bare ampersand"],
  ["<A>&#x110000;</A>", "a character that isn't one"],
  ["<A><![CDATA[x]]></A>", "CDATA"],
  ["<A><B", "a tag without an end"],
  ["<A>".repeat(100) + "</A>".repeat(100), "a hundred levels"],
])("%p is none: %s", (source) => {
  expect(parseXml(source)).toBeUndefined();
});

test("every beginning of an answer is read as whole or as none", () => {
  const whole = "<Error><Code>SlowDown</Code><Message>a &amp; b</Message></Error>";
  for (let length = 0; length < whole.length; length++)
    expect(parseXml(whole.slice(0, length))).toBeUndefined();
  expect(textOf(parseXml(whole), "Code")).toBe("SlowDown");
});
