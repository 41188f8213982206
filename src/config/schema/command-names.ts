/** What a primary calls a command of its own: one name for all nodes, and those of single nodes. */
export interface CommandNames {
  /** Undefined: the stock name. */
  readonly everywhere: string | undefined;
  /** By `host:port`, in lower case. */
  readonly at: ReadonlyMap<string, string>;
}

/** A command's name is a word without blanks; services make them of letters and digits. */
const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/i;
/** As in a URL, with brackets around an IPv6 address. */
const NODE = /^(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+):\d{1,5}$/i;

/**
 * Parses `NAME` or `HOST:PORT=NAME`, or several with commas: a service may give each node a name of its own.
 * @returns undefined where it is no such list, names a node twice, or gives two names for all.
 */
export function parseCommandNames(text: string): CommandNames | undefined {
  let everywhere: string | undefined;
  const at = new Map<string, string>();
  for (const one of text.split(",").map((part) => part.trim())) {
    const [name = "", node] = one.split("=").toReversed();
    if (!NAME.test(name) || one.split("=").length > 2) return undefined;
    if (node === undefined) {
      if (everywhere !== undefined) return undefined;
      everywhere = name;
    } else {
      if (!NODE.test(node) || at.has(node.toLowerCase())) return undefined;
      at.set(node.toLowerCase(), name);
    }
  }
  return { everywhere, at };
}

/**
 * What the node at this address calls the command; undefined: as every stock server.
 * @param names undefined: none is given.
 * @param address `host:port`; undefined for a unix socket.
 */
export function commandAt(
  names: CommandNames | undefined,
  address: string | undefined,
): string | undefined {
  return names?.at.get(address?.toLowerCase() ?? "") ?? names?.everywhere;
}
