import type { Clock } from "./clock.ts";
import { isIP } from "./address.ts";
import { ReplicaError } from "./errors.ts";
import { type Address, describeAddress } from "./address.ts";

/** What was attempted at an address, and the flags that choose another one. */
interface Attempt {
  readonly what: "listen" | "serve HTTP";
  readonly addressFlag: string;
  readonly portFlag: string;
}

/**
 * Explains why Bun.listen or Bun.serve failed at an address, and what to do about it. The code is PORT_IN_USE
 * if another process has the port, else LISTEN_FAILED.
 */
export function listenFailure(at: Address, attempt: Attempt, failure: unknown): ReplicaError {
  const { what, addressFlag, portFlag } = attempt;
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
        `${cause instanceof Error ? cause.message : String(cause)}${typeof code === "string" ? ` (${code})` : ""}; choose another ${[...new Set([addressFlag, portFlag])].join(" or ")}`,
      );
  }
}

/** For a name without an address, Bun.serve reports a port in use; Bun.listen tells the two apart. */
function reasonAt({ host, port }: Address, failure: unknown): unknown {
  try {
    Bun.listen({ hostname: host, port, socket: { data: () => undefined } }).stop(true);
    return failure;
  } catch (cause) {
    return cause;
  }
}

/** How often a taken port is tried again: a scrape or two is missed, and the log stays quiet. */
export const PORT_RETRY_MS = 5_000;

/**
 * Serves now, or once the port is free: the data matters more than who asks for it, and nothing else waits for it.
 * @param serve begins to serve, and returns what ends it. @throws ReplicaError PORT_IN_USE where the port is taken.
 * @param tell is given the failure where the port is taken, once.
 * @returns what stops serving, or trying to.
 * @throws ReplicaError what `serve` throws otherwise, at once: an address that this machine doesn't have.
 */
export function serveWhenFree(
  serve: () => () => void,
  clock: Clock,
  tell: (taken: ReplicaError) => void,
): () => void {
  const stopping = new AbortController();
  let end: (() => void) | undefined;
  const serveOnceFree = async (): Promise<void> => {
    while (end === undefined && !stopping.signal.aborted) {
      await clock.sleep(PORT_RETRY_MS, stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        end = serve();
      } catch (error) {
        // The first failure was told; the address may come back as well as the port.
        if (!(error instanceof ReplicaError)) throw error;
      }
    }
  };
  try {
    end = serve();
  } catch (error) {
    if (!(error instanceof ReplicaError) || error.code !== "PORT_IN_USE") throw error;
    tell(error);
    void serveOnceFree();
  }
  return () => {
    stopping.abort();
    end?.();
  };
}
