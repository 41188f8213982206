import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import {
  answers,
  type S3Server,
  ServerProcesses,
  serverOf,
  startedOnFreePorts,
} from "./s3-server.ts";
import { fetched, programCommand, pythonEnvironment, readStamp } from "./server-catalog.ts";

/** Whether its tests run: where it has been fetched, and in CI in any case, so that they fail where it could not be. */
export const hasSwift = readStamp("swift") !== undefined || process.env["CI"] === "true";

/** How many names a page of a list has: few, since it takes long to store many. */
export const SWIFT_PAGE_NAMES = 100;

/**
 * Starts OpenStack Swift with its S3 interface, s3api, over a folder. It refuses a body that its x-amz-checksum does not fit,
 * and knows If-None-Match.
 * @throws Error with its log if it doesn't start.
 */
export async function startSwift(): Promise<S3Server> {
  return await startedOnFreePorts(start);
}

async function start(): Promise<S3Server> {
  const { dir, stamp } = fetched("swift");
  const processes = new ServerProcesses("swift", pythonEnvironment(dir));
  try {
    const port = freePort();
    const endpoint = `http://127.0.0.1:${port}`;
    const secretKey = crypto.randomUUID();
    const folder = processes.file("swift");
    mkdirSync(folder);
    const program = join(import.meta.dir, "swift-server.py");
    const python = programCommand(dir, stamp, "python3");
    processes.start("swift", [
      ...python,
      program,
      folder,
      String(port),
      secretKey,
      String(SWIFT_PAGE_NAMES),
    ]);
    await processes.up("Swift to answer", () => answers(endpoint));
    return serverOf(processes, {
      endpoint,
      region: "us-east-1",
      accessKey: "test:tester",
      secretKey,
    });
  } catch (error) {
    await processes.end();
    throw error;
  }
}
