/*
 * Preloaded before main.ts (bun --preload), this replaces the body of `replica follow` with one that
 * misbehaves as the variable TEST_FOLLOW says.
 */
const bodies: Record<string, string> = {
  ignoresStop: `({ signal, stderr }) => {
    signal.addEventListener("abort", () => stderr.write("asked\\n"));
    stderr.write("following nobody\\n");
    return new Promise(() => setInterval(() => {}, 1000));
  }`,
  throws: `() => { throw new TypeError("first line\\nsecond line"); }`,
  rejectsUnseen: `() => { Promise.reject(new Error("nobody awaits this")); return new Promise(() => setInterval(() => {}, 1000)); }`,
  throwsLater: `() => { setTimeout(() => { throw new Error("from a timer"); }); return new Promise(() => setInterval(() => {}, 1000)); }`,
};

Bun.plugin({
  name: "stubborn follow",
  setup(build) {
    build.onLoad({ filter: /src\/cli\/commands\/follow\.ts$/ }, () => ({
      loader: "js",
      contents: `export const follow = ${bodies[process.env["TEST_FOLLOW"] ?? ""]};`,
    }));
  },
});
