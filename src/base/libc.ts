import { dlopen, type FFIFunction, type Library } from "bun:ffi";

/**
 * Opens functions of the C library that Bun does not offer itself.
 * @throws Error if the system has no such library, or the library no such function.
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
