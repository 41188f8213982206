import { expect, test } from "bun:test";
import { fixedPassword } from "../../../src/config/password.ts";
import { PrimaryLogin } from "../../../src/upstream/link/primary-login.ts";

const none = { username: undefined, password: undefined };
const settings = { username: "s", password: fixedPassword("--password-file", "from the file") };

test("takes the URL's user and password before those of the settings, each by itself", () => {
  const login = (url: { username: string | undefined; password: string | undefined }) =>
    new PrimaryLogin(url, settings).read();
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
  expect(new PrimaryLogin(none, none).read()).toBeUndefined();
  const login = new PrimaryLogin({ username: "u", password: undefined }, none);
  expect([login.username, login.read()]).toEqual(["u", undefined]);
});

test("CONFIG SET comes first, until it is set to nothing", () => {
  const login = new PrimaryLogin({ username: "u", password: "p" }, settings);
  login.set("masterauth", "set");
  expect(login.read()).toEqual({
    username: "u",
    password: "set",
    from: "the URL (percent-encoded) and CONFIG SET masterauth",
  });
  login.set("masteruser", "other");
  expect(login.read()).toEqual({
    username: "other",
    password: "set",
    from: "CONFIG SET masteruser and CONFIG SET masterauth",
  });
  expect(login.changed).toEqual(["masterauth", "masteruser"]);
  login.set("masterauth", "");
  expect(login.read()).toMatchObject({ username: "other", password: "p" });
  login.set("masteruser", "");
  expect(login.read()).toMatchObject({ username: "u", password: "p" });
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
  expect([login.read()?.password, login.read()?.password]).toEqual(["read 1", "read 2"]);
  login.set("masterauth", "set");
  expect(login.read()?.password).toBe("set");
  expect(reads).toBe(2);
});
