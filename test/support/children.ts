const children = new Map<number, Bun.Subprocess>();

process.on("exit", () => {
  for (const child of children.values()) child.kill("SIGKILL");
});

const setpriv = Bun.which("setpriv");

/**
 * The words that run `argv` so that the kernel ends it with us, however we end; where the machine
 * has no `setpriv`, the words unchanged. The process id is the program's own.
 */
export function endingWithParent(argv: readonly string[]): string[] {
  return setpriv === null ? [...argv] : [setpriv, "--pdeathsig", "KILL", "--", ...argv];
}

/** Sees to it that a child doesn't outlive this process. */
export function endWithProcess(child: Bun.Subprocess): void {
  children.set(child.pid, child);
  void child.exited.then(() => children.delete(child.pid));
}
