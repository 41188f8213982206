import { runProgram } from "./run-program.ts";
import { tempDir } from "./temp.ts";

/** Splits a line as readline does before it asks: at blanks, and around "=" and ":"; quoted blanks split nothing. */
function piecesOf(line: string): string[] {
  const pieces = line.match(/[=:]+|(?:\\.|"[^"]*(?:"|$)|'[^']*(?:'|$)|[^\s=:"'\\])+/g) ?? [];
  return /(?<!\\)\s$/.test(line) ? [...pieces, ""] : [...pieces];
}

/**
 * What bash would offer in place of the last piece of each line, by the script's function `_replica`.
 * @param cwd where paths begin.
 * @param breaks the characters at which this bash splits words.
 */
export async function offeredByBash(
  script: string,
  lines: readonly string[],
  cwd: string,
  { breaks = " \t\n\"'><=;|&(:" }: { breaks?: string } = {},
): Promise<string[][]> {
  using dir = tempDir("bash-completion");
  await Bun.write(dir.file("script"), script);
  const asks = lines.map((line) => {
    const pieces = breaks.includes("=") ? piecesOf(line) : line.split(" ");
    const words = pieces.map((piece) => shellQuoted(piece)).join(" ");
    return `COMP_LINE=${shellQuoted(line)} COMP_POINT=${line.length}
COMP_WORDS=(${words}) COMP_CWORD=${pieces.length - 1} COMPREPLY=(earlier)
_replica
printf '%s\\n' "\${COMPREPLY[@]}" end-of-offers`;
  });
  await Bun.write(dir.file("asks"), `. "$1"\n${asks.join("\n")}\n`);
  const bash = ["bash", "--norc", "--noprofile", dir.file("asks"), dir.file("script")];
  const { stdout, stderr, exitCode } = await runProgram(bash, { cwd });
  if (exitCode !== 0 || stderr !== "") throw new Error(`bash: ${exitCode} ${stderr}`);
  const offers = stdout.split("end-of-offers\n").slice(0, -1);
  return offers.map((text) =>
    text
      .split("\n")
      .filter((one) => one !== "")
      .toSorted(),
  );
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
