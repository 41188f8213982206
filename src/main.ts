#!/usr/bin/env bun

/**
 * What to print for a command line that needs nothing else of the program. It is answered before the rest is loaded,
 * which would take several times as long as the answer.
 */
async function answerTo(argv: readonly string[]): Promise<string | undefined> {
  if (argv.length !== 1) return undefined;
  switch (argv[0]) {
    case "--version":
    case "-V":
    case "version": {
      const { version } = await import("./cli/version.ts");
      return `${version}\n`;
    }
    case "--help":
    case "-h":
    case "help": {
      const { generalHelp } = await import("./cli/help.ts");
      return generalHelp();
    }
    default:
      return undefined;
  }
}

/** Whether the text could be printed. If not, the whole program does it again, and says what is wrong. */
async function print(text: string): Promise<boolean> {
  try {
    await Bun.write(Bun.stdout, text);
    return true;
  } catch {
    return false;
  }
}

async function main(): Promise<void> {
  const answer = await answerTo(process.argv.slice(2));
  if (answer !== undefined && (await print(answer))) return;
  const { runProcess } = await import("./cli/process.ts");
  runProcess();
}

void main();
