import { afterAll, beforeAll, describe } from "bun:test";
import type { S3Server } from "../support/s3-server.ts";
import { hasSwift, startSwift, SWIFT_PAGE_NAMES } from "../support/swift.ts";
import { IS_FULL } from "../support/sweep.ts";
import { testStore } from "./store/real-server.ts";

describe.skipIf(!IS_FULL || !hasSwift)("Swift", () => {
  let server: S3Server;
  beforeAll(async () => {
    server = await startSwift();
    await server.createBucket("bucket");
    await server.createBucket("root");
  });
  afterAll(() => server[Symbol.asyncDispose]());

  testStore(() => server, {
    pageNames: SWIFT_PAGE_NAMES,
    isAtomic: false,
    tellsUnknownKeys: false,
  });
});
