import { HOW_TO_GET_SERVERS, programCommand, readStamp, serverDir } from "./server-catalog.ts";

const stamp = readStamp("archive-tools");

/** Runs Debian's own `age` or `zstd`. @returns its standard output. @throws Error with what it said if it fails. */
export function runTool(
  program: "age" | "age-keygen" | "zstd",
  args: readonly string[],
  input: Uint8Array = new Uint8Array(0),
): Buffer {
  if (stamp === undefined) throw new Error(HOW_TO_GET_SERVERS);
  const command = [...programCommand(serverDir("archive-tools"), stamp, program), ...args];
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, { stdin: input });
  if (exitCode !== 0) throw new Error(`${program}: ${stderr.toString()}`);
  return Buffer.from(stdout);
}
