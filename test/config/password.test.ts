import { expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { ReplicaError } from "../../src/base/errors.ts";
import { type Password, passwordInFile } from "../../src/config/password.ts";
import { readSmallFile } from "../../src/config/read-file.ts";
import { usageErrorOf } from "../support/error-of.ts";
import { tempDir } from "../support/temp.ts";

function complaint(password: Password): string {
  try {
    password.read();
  } catch (error) {
    expect(error).toBeInstanceOf(ReplicaError);
    expect(error).toMatchObject({ code: "AUTH_FAILED", retry: "backoff" });
    return error instanceof Error ? error.message : "";
  }
  throw new Error("it was read");
}

test("reads a password's file anew each time", () => {
  using dir = tempDir("password");
  const file = dir.file("password");
  writeFileSync(file, "first\n");
  const password = passwordInFile(file, "--password-file", "the flag --password-file");
  expect([password.from, password.read()]).toEqual(["--password-file", "first"]);
  // Rewritten at once, with the same length: no time stamp would tell.
  writeFileSync(file, "other\n");
  expect(password.read()).toBe("other");
  writeFileSync(dir.file("new"), "renamed");
  renameSync(dir.file("new"), file);
  expect(password.read()).toBe("renamed");
});

test("follows a link that is swapped, as Kubernetes swaps a secret's folder", () => {
  using dir = tempDir("password");
  for (const version of ["one", "two"]) {
    mkdirSync(dir.file(version));
    writeFileSync(dir.file(version, "password"), version);
  }
  symlinkSync("one", dir.file("data"));
  symlinkSync("data/password", dir.file("password"));
  const password = passwordInFile(dir.file("password"), "--password-file", "the flag");
  expect(password.read()).toBe("one");
  symlinkSync("two", dir.file("next"));
  renameSync(dir.file("next"), dir.file("data"));
  expect(password.read()).toBe("two");
});

test("refuses a file that is gone, empty or no text, without what it held before, until it is well again", () => {
  using dir = tempDir("password");
  const file = dir.file("password");
  writeFileSync(file, "hunter2");
  const password = passwordInFile(file, "--password-file", "the variable REPLICA_PASSWORD_FILE");
  const says = (why: string) =>
    expect(complaint(password)).toBe(
      `the password is not known now: the variable REPLICA_PASSWORD_FILE: ${why}`,
    );
  rmSync(file);
  says(`can't read ${file}: there is no such file`);
  mkdirSync(file);
  says(`can't read ${file}: it is a directory`);
  rmSync(file, { recursive: true });
  // As a shell's > leaves it for a moment.
  writeFileSync(file, "");
  says(`${file} is empty; write the password into it`);
  writeFileSync(file, "\r\n");
  says(`${file} is empty; write the password into it`);
  writeFileSync(file, Buffer.from("hunter3\xff", "latin1"));
  says(`${file} is not UTF-8 text`);
  writeFileSync(file, "hunter3".repeat(10_000));
  says(`${file} is larger than 65536 bytes`);
  rmSync(file);
  // Reading it would wait for a writer, and with it the whole program.
  expect(Bun.spawnSync(["mkfifo", file]).exitCode).toBe(0);
  says(`${file} has become a pipe`);
  rmSync(file);
  writeFileSync(file, "hunter4");
  expect(password.read()).toBe("hunter4");
});

test("a pipe is waited for, but not for ever", async () => {
  using dir = tempDir("password");
  const file = dir.file("pipe");
  expect(Bun.spawnSync(["mkfifo", file]).exitCode).toBe(0);
  const waits = { writerMs: 30, wholeMs: 60 };
  const says = (maxBytes: number) =>
    usageErrorOf(() => readSmallFile(file, maxBytes, "the flag --password-file", waits)).message;
  expect(says(100)).toBe(
    `the flag --password-file: ${file} is a pipe, and nobody has written to it`,
  );
  // Opened for both, it needs no reader to be there.
  const fd = openSync(file, "r+");
  try {
    writeSync(fd, "hunter2");
    expect(says(100)).toBe(
      `the flag --password-file: ${file} is a pipe, and its writer has not closed it`,
    );
    writeSync(fd, "hunter2hunter2");
    expect(says(10)).toBe(`the flag --password-file: ${file} is larger than 10 bytes`);
  } finally {
    closeSync(fd);
  }
});

test("a device is read up to the limit, or to its end", () => {
  const read = (name: string) => readSmallFile(name, 10, "the flag --password-file");
  expect(usageErrorOf(() => read("/dev/zero")).message).toBe(
    "the flag --password-file: /dev/zero is larger than 10 bytes",
  );
  expect(read("/dev/null").length).toBe(0);
});

test("reads a pipe once, and keeps what it held", async () => {
  using dir = tempDir("password");
  const file = dir.file("pipe");
  expect(Bun.spawnSync(["mkfifo", file]).exitCode).toBe(0);
  const writer = Bun.spawn(["sh", "-c", `echo "from a pipe" > "${file}"`]);
  const password = passwordInFile(file, "--password-file", "the flag --password-file");
  expect(await writer.exited).toBe(0);
  rmSync(file);
  expect([password.read(), password.read()]).toEqual(["from a pipe", "from a pipe"]);
});
