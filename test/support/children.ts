const children = new Map<number, Bun.Subprocess>();

process.on("exit", () => {
  for (const child of children.values()) child.kill("SIGKILL");
});

const setpriv = Bun.which("setpriv");

/**
 * Returns a command line that runs `argv` and has the kernel kill it when this process ends, however it
 * ends. Without `setpriv` on this machine it returns `argv`. The process id stays the program's own.
 */
export function endingWithParent(argv: readonly string[]): string[] {
  return setpriv === null ? [...argv] : [setpriv, "--pdeathsig", "KILL", "--", ...argv];
}

/** Kills a child when this process exits. */
export function endWithProcess(child: Bun.Subprocess): void {
  children.set(child.pid, child);
  void child.exited.then(() => children.delete(child.pid));
}
