import { beforeAll, describe, expect, test } from "bun:test";
import {
  Decrypter,
  generateHybridIdentity,
  generateX25519Identity,
  identityToRecipient,
} from "age-encryption";
import {
  Decryption,
  Encryption,
  maxEncryptedBytes,
} from "../../../src/archive/format/encryption.ts";
import { Random } from "../../../src/demo/random.ts";
import { runTool } from "../../support/archive-tools.ts";
import { rejectionOf, usageErrorOf } from "../../support/error-of.ts";
import { seedOf, swept } from "../../support/sweep.ts";
import { tempDir } from "../../support/temp.ts";

const SEED = seedOf("ENCRYPTION_SEED", 1);
const PLACE = "file:///archive/x.age";
const CHUNK_BYTES = 64 * 1024;
/** Around the ends of chunks. */
const LENGTHS = [
  0,
  1,
  1000,
  CHUNK_BYTES - 1,
  CHUNK_BYTES,
  CHUNK_BYTES + 1,
  17 * CHUNK_BYTES,
  2_000_000,
];

let identity: string;
let other: string;
let encryption: Encryption;
let decryption: Decryption;

beforeAll(async () => {
  identity = await generateX25519Identity();
  other = await generateX25519Identity();
  encryption = new Encryption([await identityToRecipient(identity)]);
  decryption = await Decryption.fromFile(
    "keys.txt",
    `# created: now\n# public key: x\n${identity}\n`,
  );
});

/** What is in an object, which stays as it is. */
function decrypted(by: Decryption, stored: Uint8Array, isWhole = true): Promise<Uint8Array> {
  return by.decrypt(PLACE, Uint8Array.from(stored), isWhole);
}

function dataOf(length: number): Buffer {
  const random = new Random(SEED);
  return Buffer.from(Uint8Array.from({ length }, () => random.below(256)));
}

describe("encryption", () => {
  test.each(LENGTHS)("gives %d bytes back, and the package reads them too", async (length) => {
    const plain = dataOf(length);
    const stored = await encryption.encrypt(plain);
    expect(stored.length).toBeLessThanOrEqual(maxEncryptedBytes(length));
    expect(plain.equals(await decrypted(decryption, stored))).toBe(true);
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    expect(plain.equals(await decrypter.decrypt(stored))).toBe(true);
  });

  test("gives each object a key and a nonce of its own", async () => {
    const [one, two] = [
      await encryption.encrypt(dataOf(100)),
      await encryption.encrypt(dataOf(100)),
    ];
    expect(Buffer.compare(one, two)).not.toBe(0);
    expect(Buffer.from(one.subarray(-116)).equals(two.subarray(-116))).toBe(false);
  });

  test("reads the beginning of an object, chunk by chunk", async () => {
    const plain = dataOf(3 * CHUNK_BYTES + 10);
    const stored = await encryption.encrypt(plain);
    for (const length of [
      500,
      CHUNK_BYTES,
      CHUNK_BYTES + 1000,
      2 * CHUNK_BYTES + 1000,
      stored.length,
    ]) {
      const start = await decrypted(decryption, stored.subarray(0, length), false);
      expect(plain.subarray(0, start.length).equals(start)).toBe(true);
      expect(start.length).toBeGreaterThanOrEqual(length - CHUNK_BYTES - 1000);
    }
  });

  test("takes several recipients, also such as resist quantum computers", async () => {
    const hybrid = await generateHybridIdentity();
    const recipients = [await identityToRecipient(other), await identityToRecipient(hybrid)];
    const stored = await new Encryption(recipients).encrypt(dataOf(1000));
    for (const key of [other, hybrid]) {
      const reader = await Decryption.fromFile("k", key);
      expect(dataOf(1000).equals(await decrypted(reader, stored))).toBe(true);
    }
    const several = await Decryption.fromFile("k", `${identity}\n${other}`);
    expect(dataOf(1000).equals(await decrypted(several, stored))).toBe(true);
  });

  test("another identity is one clear line", async () => {
    const wrong = await Decryption.fromFile("k", other);
    const stored = await encryption.encrypt(dataOf(10));
    const error = await rejectionOf(() => decrypted(wrong, stored));
    expect(error).toMatchObject({ code: "USAGE", retry: "never" });
    expect(error.message).toBe(
      `${PLACE} is encrypted to another identity: name the file of one that fits`,
    );
  });

  test("cut short anywhere, or with a byte changed, an object is refused", async () => {
    const stored = await encryption.encrypt(dataOf(2 * CHUNK_BYTES));
    // All of the header and the end; of the chunks some, which are all alike.
    const places = Array.from(stored, (_, at) => at).filter(
      (at) => at < 400 || at > stored.length - 20 || at % 499 === 0,
    );
    for (const at of swept(places, 30, new Random(SEED))) {
      const changed = Buffer.from(stored);
      changed[at]! ^= 1 << new Random(SEED + at).below(8);
      for (const odd of [stored.subarray(0, at), changed]) {
        const error = await rejectionOf(() => decrypted(decryption, odd));
        expect([at, error.code]).toEqual([
          at,
          expect.stringMatching(/^(?:ARCHIVE_DAMAGED|USAGE)$/),
        ]);
      }
    }
    const longer = Buffer.concat([stored, Buffer.alloc(16)]);
    expect(await rejectionOf(() => decrypted(decryption, longer))).toMatchObject({
      code: "ARCHIVE_DAMAGED",
    });
    for (const odd of [new Uint8Array(0), Buffer.from("REDIS0011"), Buffer.alloc(100_000, 10)])
      expect(await rejectionOf(() => decrypted(decryption, odd))).toMatchObject({
        code: "ARCHIVE_DAMAGED",
      });
  });

  test("chunks that changed places are refused", async () => {
    const stored = Buffer.from(await encryption.encrypt(dataOf(4 * CHUNK_BYTES)));
    const size = CHUNK_BYTES + 16;
    const [first, second] = [stored.length - 4 * size, stored.length - 3 * size];
    const swapped = Buffer.from(stored);
    swapped.set(stored.subarray(first, second), second);
    swapped.set(stored.subarray(second, second + size), first);
    expect(await rejectionOf(() => decrypted(decryption, swapped))).toMatchObject({
      code: "ARCHIVE_DAMAGED",
    });
  });
});

describe("keys", () => {
  test("what is no recipient is refused, and a secret in its place is not shown", async () => {
    for (const recipient of ["", "age1", "age1xyz", "ssh-ed25519 AAAA", identity]) {
      const { message } = usageErrorOf(() => new Encryption([recipient]));
      expect(message).not.toContain(identity);
    }
    usageErrorOf(() => new Encryption([]));
  });

  test("what is no identity file is refused, and nothing of it is shown", async () => {
    const broken = `${identity.slice(0, -1)}${identity.endsWith("Q") ? "P" : "Q"}`;
    for (const text of [
      "",
      "# only a comment\n",
      broken,
      "-----BEGIN OPENSSH PRIVATE KEY-----",
      `${identity}\nx`,
    ]) {
      const error = await rejectionOf(() => Decryption.fromFile("keys.txt", text));
      expect(error).toMatchObject({ code: "USAGE" });
      expect(error.message).toStartWith("keys.txt holds");
      expect(`${Bun.inspect(error)}`).not.toContain(identity.slice(20, 40));
    }
  });
});

describe("Debian's age", () => {
  const dir = tempDir("age");

  test.each(LENGTHS)("reads our %d bytes, and we read theirs", async (length) => {
    const keys = runTool("age-keygen", []).toString();
    const recipient = /public key: (age1\w+)/.exec(keys)![1]!;
    await Bun.write(dir.file("keys.txt"), keys);
    const plain = dataOf(length);
    const stored = await new Encryption([recipient]).encrypt(plain);
    expect(runTool("age", ["-d", "-i", dir.file("keys.txt")], stored).equals(plain)).toBe(true);
    const theirs = runTool("age", ["-r", recipient], plain);
    const reader = await Decryption.fromFile("keys.txt", keys);
    expect(plain.equals(await decrypted(reader, theirs))).toBe(true);
  });
});
