// Below Linux's ephemeral ports, which begin at 32768: any outgoing connection could take one of those.
const FIRST_PORT = 10_000;
const PORTS_EACH = 350;
const PROCESSES = 65;

const first = FIRST_PORT + (process.pid % PROCESSES) * PORTS_EACH;
let taken = 0;

/**
 * Returns a TCP port on which nobody listens. Each process has its own range, so two tests don't get the
 * same port; within it the ports are given out in turn.
 * @throws Error if no port of the range is free.
 */
export function freePort(hostname = "127.0.0.1"): number {
  for (let tries = 0; tries < PORTS_EACH; tries++) {
    const port = first + (taken++ % PORTS_EACH);
    try {
      Bun.listen({ hostname, port, socket: { data: () => undefined } }).stop(true);
      return port;
    } catch {
      // Somebody listens there.
    }
  }
  throw new Error(`no free port from ${first} to ${first + PORTS_EACH - 1} on ${hostname}`);
}
