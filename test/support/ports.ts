// Linux gives the ports from 32768 on to whoever asks for any and to each connection that goes out:
// one of those, free a moment ago, may be somebody's now.
const FIRST_PORT = 10_000;
const PORTS_EACH = 350;
const PROCESSES = 65;

const first = FIRST_PORT + (process.pid % PROCESSES) * PORTS_EACH;
let taken = 0;

/**
 * A TCP port on loopback that nobody listens on, and that nobody comes to have without asking for it:
 * this process's own ones in turn, as long as they are free.
 * @throws Error where none of them is.
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
