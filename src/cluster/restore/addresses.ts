import { describeAddress, isIP } from "../../base/address.ts";
import { usageError } from "../../base/errors.ts";
import { BUS_OFFSET } from "../slots/nodes-conf.ts";

/** Where a node of the restored cluster is to listen. */
export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

const FIRST_PORT = 7_000;
const MAX_PORT = 65_535;
/** They stand for every address of a machine, and lead others nowhere. */
const UNSPECIFIED: readonly string[] = ["0.0.0.0", "::"];

/**
 * Parses the addresses for a restored cluster: `10.0.0.1:7000,10.0.0.2:7000`, an IPv6 address in brackets.
 * @param text undefined: 127.0.0.1 from port 7000 on.
 * @param shards how many there must be.
 * @throws ReplicaError USAGE.
 */
export function nodeAddresses(text: string | undefined, shards: number): NodeAddress[] {
  if (text === undefined) {
    return Array.from({ length: shards }, (_, index) => ({
      host: "127.0.0.1",
      port: FIRST_PORT + index,
    }));
  }
  const addresses = text.split(",").map(parseAddress);
  if (addresses.length !== shards) {
    throw usageError(
      `--addresses names ${addresses.length}, and ${shards} ${shards === 1 ? "shard is" : "shards are"} restored: name ${shards}, one for each`,
    );
  }
  refuseTwice(addresses);
  return addresses;
}

/** A node listens for clients at its port, and for the other nodes at one above. */
function refuseTwice(addresses: readonly NodeAddress[]): void {
  const uses = new Map<string, string>();
  for (const address of addresses) {
    const { host, port } = address;
    for (const [taken, what] of [
      [port, describeAddress(address)],
      [port + BUS_OFFSET, `the cluster bus of ${describeAddress(address)}`],
    ] as const) {
      const place = `${machineOf(host)} ${taken}`;
      const other = uses.get(place);
      if (other === what) throw usageError(`--addresses names ${what} twice`);
      if (other !== undefined) {
        throw usageError(
          `--addresses gives port ${taken} of ${host} to ${other} and to ${what}: the cluster bus listens ${BUS_OFFSET} above a node's port; give one of them another port`,
        );
      }
      uses.set(place, what);
    }
  }
}

/** An IPv4 address may be spelled as one of IPv6. */
function machineOf(host: string): string {
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host);
  if (mapped === null) return host;
  const [high, low] = mapped.slice(1).map((part) => Number.parseInt(part, 16));
  return [high! >> 8, high! & 255, low! >> 8, low! & 255].join(".");
}

function parseAddress(text: string): NodeAddress {
  const shown = JSON.stringify(text.slice(0, 100));
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+)):([1-9]\d{0,4})$/.exec(text);
  const host = match?.[1] === undefined ? ipv4(match?.[2] ?? "") : ipv6(match[1]);
  const port = Number(match?.[3]);
  if (host === undefined || port > MAX_PORT) {
    throw usageError(
      `--addresses has ${shown}: it takes IP addresses with their ports, such as 10.0.0.1:7000,[fd00::1]:7000; a node knows the others by address, not by name`,
    );
  }
  if (UNSPECIFIED.includes(host)) {
    throw usageError(
      `--addresses has ${shown}: that stands for all addresses of a machine, and the other nodes need one that leads there`,
    );
  }
  if (port + BUS_OFFSET > MAX_PORT) {
    throw usageError(
      `--addresses has ${shown}: the cluster bus listens ${BUS_OFFSET} above the port, so it can be at most ${MAX_PORT - BUS_OFFSET}`,
    );
  }
  return { host, port };
}

function ipv4(text: string): string | undefined {
  return isIP(text) === 4 ? text : undefined;
}

/** In the one form that URLs have for it; undefined for none, and for one with a zone, which only one machine knows. */
function ipv6(text: string): string | undefined {
  return isIP(text) === 6 ? URL.parse(`http://[${text}]`)?.hostname.slice(1, -1) : undefined;
}
