/** A kind of machine that gets a program of its own. */
export interface Target {
  /** In the program's name: `replica-linux-x64`. */
  readonly name: "linux-x64" | "linux-arm64" | "linux-x64-musl" | "darwin-arm64";
  /** The package with Bun's runtime for it, in `optionalDependencies`. */
  readonly runtime: string;
  /** Debian's name of the architecture, where there is a package for it. */
  readonly debian?: "amd64" | "arm64";
}

export const TARGETS: readonly Target[] = [
  { name: "linux-x64", runtime: "@oven/bun-linux-x64", debian: "amd64" },
  { name: "linux-arm64", runtime: "@oven/bun-linux-aarch64", debian: "arm64" },
  { name: "linux-x64-musl", runtime: "@oven/bun-linux-x64-musl" },
  { name: "darwin-arm64", runtime: "@oven/bun-darwin-aarch64" },
];
