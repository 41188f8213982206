import { expect, test } from "bun:test";
import { join } from "node:path";

test("that no descriptor is free is said, and is not called a refused connection", async () => {
  const script = join(import.meta.dir, "link-without-descriptors.ts");
  const child = Bun.spawn(["sh", "-c", 'ulimit -n 64; exec "$0" "$1"', process.execPath, script], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const said = await new Response(child.stdout).text();
  expect(said).toStartWith("CONNECT_FAILED this process has no file descriptor free (EMFILE): ");
  expect(await child.exited).toBe(0);
});
