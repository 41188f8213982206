import { dlopen, type FFIFunction, type Library } from "bun:ffi";

/**
 * Calls of the C library that Bun has none for.
 * @throws Error where the system has no such library, or it lacks one of them.
 */
export function libc<Calls extends Record<string, FFIFunction>>(calls: Calls): Library<Calls> {
  const names =
    process.platform === "darwin"
      ? ["libSystem.B.dylib"]
      : ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];
  let failure: unknown;
  for (const name of names) {
    try {
      return dlopen(name, calls);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
