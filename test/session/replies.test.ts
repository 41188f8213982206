import { describe, expect, test } from "bun:test";
import { readAuth, readPong, readPsync } from "../../src/session/replies.ts";
import { bytes, REPLID } from "./walk.ts";
import { errorOf } from "../support/error-of.ts";

describe("readPsync", () => {
  const psync = (line: string) => readPsync(bytes(line));
  const full = (id: string, offset: string) => psync(`+FULLRESYNC ${id} ${offset}`);

  test("shows nothing in an error that could steer a terminal", () => {
    const nasty = '\x1b[2J\x7f\x90\x9d0;title\x07\xff"';
    for (const act of [() => full(nasty, "1"), () => full(REPLID, nasty)]) {
      const { code, message } = errorOf(act);
      expect(code).toBe("PROTOCOL");
      expect(message).toMatch(/^[ -~]+$/);
      expect(message).toEndWith('this one is "?[2J???0;title??""');
    }
  });

  test.each(["0", "1", "4503599627370496"])("the offset %s", (offset) => {
    const position = { replid: REPLID, offset: Number(offset) };
    expect(full(REPLID, offset)).toEqual({ kind: "full", position });
  });

  test.each([
    "",
    "-1",
    "1.0",
    "0x10",
    "1e3",
    "abc",
    "4503599627370497",
    "99999999999999999999",
    "١",
  ])("the offset '%s' is malformed", (offset) => {
    expect(errorOf(() => full(REPLID, offset)).code).toBe("PROTOCOL");
  });

  test.each([
    "",
    "short",
    "a".repeat(39),
    "a".repeat(41),
    "a".repeat(39) + "/",
    "../".repeat(13) + "x",
  ])("the id '%s' is malformed", (id) => {
    expect(errorOf(() => full(id, "1")).code).toBe("PROTOCOL");
    if (id !== "") expect(errorOf(() => psync(`+CONTINUE ${id}`)).code).toBe("PROTOCOL");
  });

  test("takes +CONTINUE with a blank and no id for +CONTINUE alone", () => {
    expect(psync("+CONTINUE ")).toEqual({ kind: "partial", replid: undefined });
  });

  test("takes the refusal of a replica that would feed itself for a circle", () => {
    const { code, message } = errorOf(() =>
      psync("-LOOP what answers there is this replica itself"),
    );
    expect(code).toBe("REPLICATION_LOOP");
    expect(message).toStartWith("what answers there is this replica itself: REPLICAOF must name");
    expect(errorOf(() => psync("-LOOPY")).code).toBe("PRIMARY_REFUSED");
  });

  test.each(["+FULLRESYNC", "+FULLRESYNCX", "+OK", "+", "$5", ":1", "PSYNC", "\0"])(
    "'%s' is malformed",
    (line) => {
      expect(errorOf(() => psync(line)).code).toBe("PROTOCOL");
    },
  );
});

const auth = (line: string) => readAuth(bytes(line), "the primary", "--password-file");

describe("readAuth", () => {
  test("+OK", () => expect(auth("+OK")).toBeUndefined());

  test.each([
    "-ERR Client sent AUTH, but no password is set",
    "-ERR AUTH <password> called without any password configured for the default user.",
  ])("%s: says to leave the password out", (line) => {
    expect(errorOf(() => auth(line)).message).toContain("leave it out");
  });

  test.each(["-WRONGPASS invalid username-password pair", ":1", ""])(
    "'%s' is a refusal that says what to check",
    (line) => {
      expect(errorOf(() => auth(line))).toMatchObject({ code: "AUTH_FAILED" });
      expect(errorOf(() => auth(line)).message).toContain("--password-file");
    },
  );
});

test("readPong: tells TLS from something that isn't a server", () => {
  expect(errorOf(() => readPong(new Uint8Array([0x15, 3, 3, 0, 2]))).message).toContain(
    "rediss://",
  );
  expect(errorOf(() => readPong(bytes("SSH-2.0-OpenSSH"))).message).toContain("SSH-2.0-OpenSSH");
});
