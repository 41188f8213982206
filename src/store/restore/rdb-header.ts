import * as fs from "node:fs";
import { ReplicaError } from "../../base/errors.ts";
import { MAX_HEADER_BYTES, parseRdbHeader, type RdbHeader } from "../../rdb/header.ts";
import { diskError, openToRead } from "../disk/disk.ts";

/** Reads the header of an RDB file. @throws ReplicaError BAD_PAYLOAD, DISK_FAILED. */
export function headerOf(path: string): RdbHeader {
  let head: Buffer;
  try {
    const fd = openToRead(path);
    try {
      head = Buffer.alloc(MAX_HEADER_BYTES + 1);
      head = head.subarray(0, fs.readSync(fd, head, 0, head.length, 0));
    } finally {
      fs.closeSync(fd);
    }
  } catch (cause) {
    throw diskError("reading", path, cause);
  }
  const header = parseRdbHeader(head);
  if (header !== undefined) return header;
  throw new ReplicaError("BAD_PAYLOAD", {
    retry: "never",
    message: `${path} ends inside its header`,
  });
}

/** The header of a generation's snapshot; undefined where it is missing or damaged, which is told once it is checked. */
export function soundHeaderOf(path: string): RdbHeader | undefined {
  try {
    return headerOf(path);
  } catch (error) {
    if (error instanceof ReplicaError) return undefined;
    throw error;
  }
}
