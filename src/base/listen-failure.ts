import { isIP } from "node:net";
import { ReplicaError } from "./errors.ts";
import { type Address, describeAddress } from "./address.ts";

/** What was to be done at an address, and the flags that choose another. */
interface Wanted {
  readonly what: "listen" | "serve HTTP";
  readonly addressFlag: string;
  readonly portFlag: string;
}

/**
 * Why Bun.listen or Bun.serve failed at an address, and what to do about it: ReplicaError PORT_IN_USE where
 * another has the port, else LISTEN_FAILED.
 */
export function listenFailure(at: Address, wanted: Wanted, failure: unknown): ReplicaError {
  const { what, addressFlag, portFlag } = wanted;
  const cause = reasonAt(at, failure);
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const refusal = (reason: string) =>
    new ReplicaError(code === "EADDRINUSE" ? "PORT_IN_USE" : "LISTEN_FAILED", {
      retry: "never",
      message: `can't ${what} on ${describeAddress(at)}: ${reason}`,
      cause,
    });
  switch (code) {
    case "EADDRINUSE":
      return refusal(`the port is in use; choose another ${portFlag}, or 0 for a free one`);
    case "EADDRNOTAVAIL":
      return refusal(`this machine has no such address; choose another ${addressFlag}`);
    case "EACCES":
      return refusal(`permission denied; choose a port above 1023 with ${portFlag}`);
    default:
      if (code === undefined && isIP(at.host) === 0) {
        return refusal(`no address is known for that name; choose another ${addressFlag}`);
      }
      return refusal(
        `${cause instanceof Error ? cause.message : cause}${code === undefined ? "" : ` (${code})`}; choose another ${[...new Set([addressFlag, portFlag])].join(" or ")}`,
      );
  }
}

/** Bun.serve takes a name without an address for a port in use; Bun.listen tells them apart. */
function reasonAt({ host, port }: Address, failure: unknown): unknown {
  try {
    Bun.listen({ hostname: host, port, socket: { data: () => undefined } }).stop(true);
    return failure;
  } catch (cause) {
    return cause;
  }
}
