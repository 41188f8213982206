/*
 * Loaded before main.ts (bun --preload), it puts another body in the place of `replica follow`: one
 * that does what the variable TEST_FOLLOW says, for what a good command never does.
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
