import { describe, expect, test } from "bun:test";
import {
  ARCHIVE_DOCUMENT,
  ARCHIVE_FORMAT,
  decodeDocument,
  encodeDocument,
  type GenerationDocument,
} from "../../../src/archive/format/documents.ts";
import { errorOf } from "../../support/error-of.ts";

const PLACE = "s3://bucket/archive/generations/x/generation.json";

const generation: GenerationDocument = {
  format: ARCHIVE_FORMAT,
  started: "2026-11-30T07:05:09.000Z",
  program: "replica 0.1.0",
  primary: "10.0.0.1:6379",
  primaryVersion: "8.0.2",
  rdbFormat: "REDIS0012",
  replid: "a".repeat(40),
  baseOffset: 1234,
  codec: "zstd",
  recipients: [],
};

const documents = {
  archive: ARCHIVE_DOCUMENT,
  generation,
  base: {
    format: 1,
    finished: "2026-11-30T07:06:00Z",
    rdbBytes: 20,
    rdbCrc64: "0".repeat(16),
    pieces: [{ name: "000000.rdb.zst", bytes: 30, sha256: "0".repeat(64), rdbBytes: 20 }],
  },
  sealed: {
    format: 1,
    sealed: "2026-11-30T07:07:00Z",
    reason: "a newer snapshot",
    endOffset: 5000,
    endCrc64: "f".repeat(16),
  },
} as const;

describe.each(Object.keys(documents) as (keyof typeof documents)[])("%s.json", (kind) => {
  const document: object = documents[kind];
  const encoded = (json: object) => Buffer.from(JSON.stringify(json));

  test("is read as it was written, in the same bytes each time", () => {
    const stored = encodeDocument(kind, document as never);
    expect(decodeDocument(kind, PLACE, stored)).toEqual(document as never);
    expect(Buffer.compare(encodeDocument(kind, document as never), stored)).toBe(0);
  });

  test("may have more than we know", () => {
    const more = encoded({ ...document, later: { a: 1 } });
    expect(decodeDocument(kind, PLACE, more)).toEqual(document as never);
  });

  test("of a newer format is refused in one line, whatever else is in it", () => {
    for (const json of [{ ...document, format: 2 }, { format: 7 }]) {
      const error = errorOf(() => decodeDocument(kind, PLACE, encoded(json)));
      expect(error).toMatchObject({ code: "ARCHIVE_TOO_NEW", retry: "never" });
      expect(error.message).toBe(
        `${PLACE} has format ${json.format}, this program reads up to 1: use a newer one`,
      );
    }
  });

  test("without a field, or with another value, is damaged", () => {
    for (const name of Object.keys(document)) {
      if (name === "primaryVersion" || name === "rdbFormat") continue;
      const { [name]: _, ...rest } = document as Record<string, unknown>;
      for (const json of [rest, { ...rest, [name]: { odd: true } }]) {
        const error = errorOf(() => decodeDocument(kind, PLACE, encoded(json)));
        expect(error).toMatchObject({ code: "ARCHIVE_DAMAGED", retry: "never" });
        expect(error.message).toContain(`at ${name}`);
      }
    }
  });

  test("cut short at any byte, or of other bytes, is damaged", () => {
    const stored = encodeDocument(kind, document as never);
    for (let length = 0; length < stored.length - 2; length++) {
      const error = errorOf(() => decodeDocument(kind, PLACE, stored.subarray(0, length)));
      expect(error.code).toBe("ARCHIVE_DAMAGED");
    }
    for (const odd of [Buffer.from([0xff, 0xfe]), Buffer.from("[]"), Buffer.from("null")])
      expect(errorOf(() => decodeDocument(kind, PLACE, odd)).code).toBe("ARCHIVE_DAMAGED");
  });
});
