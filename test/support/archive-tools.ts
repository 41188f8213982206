import { HOW_TO_GET_SERVERS, programCommand, readStamp, serverDir } from "./server-catalog.ts";

const stamp = readStamp("archive-tools");

type ArchiveTool = "age" | "age-keygen" | "zstd";

/** How to start one of Debian's own. @throws Error where it has not been fetched. */
export function toolCommand(program: ArchiveTool): string[] {
  if (stamp === undefined) throw new Error(HOW_TO_GET_SERVERS);
  return [...programCommand(serverDir("archive-tools"), stamp, program)];
}

/** Runs Debian's own `age` or `zstd`. @returns its standard output. @throws Error with what it said if it fails. */
export function runTool(
  program: ArchiveTool,
  args: readonly string[],
  input: Uint8Array = new Uint8Array(0),
): Buffer {
  const command = [...toolCommand(program), ...args];
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, { stdin: input });
  if (exitCode !== 0) throw new Error(`${program}: ${stderr.toString()}`);
  return Buffer.from(stdout);
}
