import { dlopen, FFIType, type FFIFunction, type Library, ptr } from "bun:ffi";

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

/** How many file descriptors this process may have; Infinity where the system doesn't say. */
export function descriptorLimit(): number {
  // RLIMIT_NOFILE, and a struct of two numbers: the limit, and how far it may be raised.
  const resource = process.platform === "darwin" ? 8 : 7;
  const both = new BigUint64Array(2);
  try {
    const { symbols, close } = libc({
      getrlimit: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
    });
    const failed = symbols.getrlimit(resource, ptr(both)) !== 0;
    close();
    return failed ? Infinity : Number(both[0]);
  } catch {
    return Infinity;
  }
}
