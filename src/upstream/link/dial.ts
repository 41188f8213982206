import type { Socket, SocketHandler } from "bun";
import { isIP } from "../../base/address.ts";

/** A name may stand for many addresses; more than these are not tried. */
const MAX_ADDRESSES = 8;
/** How long one address may take before the next is tried beside it ("RFC 8305, Connection Attempt Delay"). */
const STAGGER_MS = 250;

/**
 * Looks up a host's addresses, in the order in which to try them; an address is its own. Asked anew each time: Bun's own
 * connect remembers what it was answered for half a minute, and c-ares for as long as a name server says, so that a name
 * which was moved to another server would still lead to the old one.
 * @throws Error with a code such as ENOTFOUND.
 */
export async function resolveHost(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  const found = await Bun.dns.lookup(host, { backend: "libc" });
  return [...new Set(found.map(({ address }) => address))].slice(0, MAX_ADDRESSES);
}

/** What a connection reports. */
export type Handlers = Required<
  Pick<
    SocketHandler<undefined>,
    "open" | "handshake" | "data" | "drain" | "end" | "close" | "error"
  >
>;

/** How one address is connected to. */
export type ConnectTo = (address: string, socket: SocketHandler<undefined>) => Promise<unknown>;

/**
 * Connects to the first of these addresses that answers: to one after the other, and to the next beside one that takes
 * long. Reports what the connection reports that came about; the others are closed.
 * @param failed is called once, with why the last one failed, where none came about.
 * @param isOver whether nobody waits for it any more.
 */
export function dial(
  addresses: readonly string[],
  connect: ConnectTo,
  handlers: Handlers,
  failed: (cause: unknown) => void,
  isOver: () => boolean,
): void {
  let started = 0;
  let pending = 0;
  let won: number | undefined;
  const tryNext = (): void => {
    const index = started;
    const address = addresses[index];
    if (address === undefined || won !== undefined || isOver()) return;
    started++;
    pending++;
    const timer = setTimeout(tryNext, STAGGER_MS);
    let isDone = false;
    const fail = (cause: unknown) => {
      clearTimeout(timer);
      if (isDone) return;
      isDone = true;
      pending--;
      if (won !== undefined) return;
      if (started < addresses.length) return tryNext();
      if (pending === 0) failed(cause);
    };
    const open = (socket: Socket) => {
      clearTimeout(timer);
      isDone = true;
      if (won !== undefined) return void socket.terminate();
      won = index;
      return handlers.open(socket);
    };
    connect(address, ofOne(handlers, { open, fail, isIt: () => won === index })).catch(fail);
  };
  tryNext();
}

/** The handlers of one of the connections that are tried. */
function ofOne(
  handlers: Handlers,
  {
    open,
    fail,
    isIt,
  }: {
    readonly open: Handlers["open"];
    readonly fail: (cause: unknown) => void;
    readonly isIt: () => boolean;
  },
): SocketHandler<undefined> {
  return {
    binaryType: "uint8array",
    open,
    handshake: (...args) => (isIt() ? handlers.handshake(...args) : undefined),
    data: (...args) => (isIt() ? handlers.data(...args) : undefined),
    drain: (...args) => (isIt() ? handlers.drain(...args) : undefined),
    end: (...args) => (isIt() ? handlers.end(...args) : fail(undefined)),
    close: (socket, error) => (isIt() ? handlers.close(socket, error) : fail(error)),
    error: (socket, error) => (isIt() ? handlers.error(socket, error) : fail(error)),
    connectError: (_socket, error) => fail(error),
  };
}
