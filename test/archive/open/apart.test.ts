import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join, relative } from "node:path";
import { refuseOverlap } from "../../../src/archive/open/apart.ts";
import { errorOf } from "../../support/error-of.ts";
import { type TempDir, tempDir } from "../../support/temp.ts";

let dir: TempDir;
let at: (path: string) => string;

beforeAll(() => {
  dir = tempDir("apart");
  at = (path) => join(fs.realpathSync(dir.path), path);
  fs.mkdirSync(at("data/generations"), { recursive: true });
  fs.mkdirSync(at("disk/archive"), { recursive: true });
  fs.symlinkSync(at("data"), at("to-data"));
  fs.symlinkSync("disk/archive", at("to-archive"));
  fs.symlinkSync(at("disk/archive/later"), at("to-nothing"));
});
afterAll(() => dir.remove());

const refusal = (archive: string, data: string) =>
  errorOf(() => refuseOverlap(`file://${at(archive)}`, at(data)));

describe("an archive in a folder", () => {
  test.each([
    ["the data directory itself", "data", "data", "is the data directory itself"],
    ["the data directory with a slash", "data/", "data", "is the data directory itself"],
    ["the data directory by a link", "to-data", "data", "is the data directory itself"],
    ["the data directory, named by a link", "data", "to-data", "is the data directory itself"],
    ["a folder in it", "data/generations", "data", "lies in the data directory"],
    ["a folder in it that isn't there", "data/a/b", "data", "lies in the data directory"],
    ["a folder in it by a link", "to-data/new", "data", "lies in the data directory"],
    ["a folder of one that isn't there", "new/archive", "new", "lies in the data directory"],
    ["one that isn't there, twice", "new", "new", "is the data directory itself"],
    ["what a link to nothing will be", "to-nothing", "disk/archive/later", "itself"],
    ["what a link to nothing lies in", "disk/archive", "to-nothing", "holds the data directory"],
    ["a folder around it", "disk/archive", "disk/archive/data", "holds the data directory"],
    ["a folder around it by a link", "to-archive", "disk/archive/data", "holds the data directory"],
  ])("is refused where it is %s", (_, archive, data, how) => {
    const before = fs.readdirSync(dir.path, { recursive: true }).toSorted();
    const error = refusal(archive, data);
    expect(error).toMatchObject({ code: "USAGE", message: expect.stringContaining(how) });
    expect(fs.readdirSync(dir.path, { recursive: true }).toSorted()).toEqual(before);
  });

  test.each([
    ["beside it", "disk/archive", "data"],
    ["beside it, with a name that begins alike", "data-archive", "data"],
    ["beside it, neither of them there", "a/b/archive", "a/b/data"],
  ])("is taken %s", (_, archive, data) => {
    expect(() => refuseOverlap(`file://${at(archive)}`, at(data))).not.toThrow();
  });

  test("is taken behind links that go round", () => {
    using other = tempDir("apart-round");
    fs.symlinkSync("round", other.file("round"));
    expect(() => refuseOverlap(`file://${other.file("round")}`, at("data"))).not.toThrow();
  });

  test("is refused for a data directory that is named from the working folder, and %-escaped", () => {
    fs.mkdirSync(at("with space"));
    const url = `file://${at("with%20space")}`;
    const relativePath = relative(process.cwd(), at("with space"));
    expect(errorOf(() => refuseOverlap(url, relativePath))).toMatchObject({ code: "USAGE" });
  });

  test("is no concern of a bucket's", () => {
    expect(() => refuseOverlap("s3://bucket/data", at("data"))).not.toThrow();
  });
});
