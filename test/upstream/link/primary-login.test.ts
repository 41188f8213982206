import { expect, test } from "bun:test";
import { fixedPassword } from "../../../src/config/password.ts";
import { parsePrimaryUrl } from "../../../src/config/primary-url.ts";
import { PrimaryLogin } from "../../../src/upstream/link/primary-login.ts";

const primary = parsePrimaryUrl("redis://10.0.0.1");
const stranger = { ...parsePrimaryUrl("redis://10.0.0.2"), isStranger: true } as const;
const none = { username: undefined, password: undefined };
const settings = { username: "s", password: fixedPassword("--password-file", "from the file") };

test("takes the URL's user and password before those of the settings, each by itself", () => {
  const login = (url: { username: string | undefined; password: string | undefined }) =>
    new PrimaryLogin(url, settings).read(primary);
  expect(login({ username: "u", password: "p" })).toEqual({
    username: "u",
    password: "p",
    from: "the login in the URL (percent-encoded)",
  });
  expect(login({ username: "u", password: undefined })).toEqual({
    username: "u",
    password: "from the file",
    from: "the URL (percent-encoded) and --password-file",
  });
  expect(login({ username: undefined, password: "p" })).toEqual({
    username: "s",
    password: "p",
    from: "--username and the URL (percent-encoded)",
  });
  expect(login(none)).toEqual({
    username: "s",
    password: "from the file",
    from: "--username and --password-file",
  });
});

test("is none without a password, also where a user is named", () => {
  expect(new PrimaryLogin(none, none).read(primary)).toBeUndefined();
  const login = new PrimaryLogin({ username: "u", password: undefined }, none);
  expect([login.username, login.read(primary)]).toEqual(["u", undefined]);
});

test("CONFIG SET comes first, until it is set to nothing", () => {
  const login = new PrimaryLogin({ username: "u", password: "p" }, settings);
  login.set("masterauth", "set");
  expect(login.read(primary)).toEqual({
    username: "u",
    password: "set",
    from: "the URL (percent-encoded) and CONFIG SET masterauth",
  });
  login.set("masteruser", "other");
  expect(login.read(primary)).toEqual({
    username: "other",
    password: "set",
    from: "CONFIG SET masteruser and CONFIG SET masterauth",
  });
  expect(login.changed).toEqual(["masterauth", "masteruser"]);
  login.set("masterauth", "");
  expect(login.read(primary)).toMatchObject({ username: "other", password: "p" });
  login.set("masteruser", "");
  expect(login.read(primary)).toMatchObject({ username: "u", password: "p" });
  expect(login.changed).toEqual([]);
});

test("says where each part is kept for the next start: in the URL if that carries it, since it wins", () => {
  const keptIn = (username?: string, password?: string) => {
    const login = new PrimaryLogin({ username, password }, settings);
    return [login.keptIn("masteruser"), login.keptIn("masterauth")];
  };
  const inUrl = "the URL (percent-encoded), which comes before";
  expect(keptIn()).toEqual(["--username", "--password-file"]);
  expect(keptIn("u")).toEqual([`${inUrl} --username`, "--password-file"]);
  expect(keptIn(undefined, "p")).toEqual(["--username", `${inUrl} --password-file`]);
  expect(keptIn("u", "p")).toEqual([`${inUrl} --username`, `${inUrl} --password-file`]);
});

test("reads the settings' password at each attempt, and only where it is used", () => {
  let reads = 0;
  const password = { from: "--password-file", read: () => `read ${++reads}` };
  const login = new PrimaryLogin(none, { username: undefined, password });
  expect([login.read(primary)?.password, login.read(primary)?.password]).toEqual([
    "read 1",
    "read 2",
  ]);
  login.set("masterauth", "set");
  expect(login.read(primary)?.password).toBe("set");
  expect(reads).toBe(2);
});

test("a stranger gets nothing of what was given at the start or set for others, and nothing is read for it", () => {
  const password = {
    from: "--password-file",
    read: () => {
      throw new Error("read for a stranger");
    },
  };
  for (const url of [none, { username: "u", password: "p" }]) {
    const login = new PrimaryLogin(url, { username: "s", password });
    login.set("masterauth", "set for the named");
    login.turnTo(stranger);
    expect(login.read(stranger)).toBeUndefined();
    expect(login.changed).toEqual([]);
    expect(login.withheld).toBe(
      "no password is sent to redis://10.0.0.2:6379, which only REPLICAOF names: start with its URL, or where Sentinel decides with redis+sentinel://…, or send CONFIG SET masterauth for it",
    );
    login.turnTo(primary);
    expect(login.withheld).toBeUndefined();
    expect(login.read(primary)?.password).toBe("set for the named");
  }
});

test("CONFIG SET gives a stranger a password, with the user of the start; the next stranger gets none", () => {
  const login = new PrimaryLogin({ username: "u", password: "p" }, settings);
  login.turnTo(stranger);
  login.set("masterauth", "set");
  expect(login.read(stranger)).toEqual({
    username: "u",
    password: "set",
    from: "the URL (percent-encoded) and CONFIG SET masterauth",
  });
  login.set("masteruser", "other");
  expect(login.read(stranger)?.username).toBe("other");
  expect([login.username, login.withheld]).toEqual(["other", undefined]);
  expect(login.keptIn("masterauth")).toBe("the URL of redis://10.0.0.2:6379, to start with");
  // The one that the start names is as it was.
  expect(login.read(primary)).toMatchObject({ username: "u", password: "p" });
  const next = { ...stranger, host: "10.0.0.3" };
  expect(login.read(next)).toBeUndefined();
  login.turnTo(next);
  expect(login.read(next)).toBeUndefined();
  login.turnTo(stranger);
  expect([login.read(stranger), login.changed]).toEqual([undefined, []]);
});
