import { expect, test } from "bun:test";
import { nodeAddresses } from "../../../src/cluster/restore/addresses.ts";

test("by default the nodes are on loopback from port 7000 on", () => {
  expect(nodeAddresses(undefined, 2)).toEqual([
    { host: "127.0.0.1", port: 7000 },
    { host: "127.0.0.1", port: 7001 },
  ]);
});

test("addresses are taken in their order, IPv6 in brackets", () => {
  expect(nodeAddresses("10.0.0.1:7000,[fd00::1]:55535", 2)).toEqual([
    { host: "10.0.0.1", port: 7000 },
    { host: "fd00::1", port: 55535 },
  ]);
});

test("an IPv6 address is taken in one form, however it is spelled", () => {
  expect(nodeAddresses("[FD00:0:0::01]:7000", 1)).toEqual([{ host: "fd00::1", port: 7000 }]);
});

test.each([
  "10.0.0.1:7000,10.0.0.2:17000",
  "10.0.0.1:7000,10.0.0.1:7001",
  "127.0.0.1:7000,[::1]:7000",
])("%s is taken", (text) => {
  expect(nodeAddresses(text, 2)).toHaveLength(2);
});

test.each([
  ["10.0.0.1:7000", /names 1, and 2 shards are restored: name 2/],
  ["10.0.0.1:7000,10.0.0.1:7000", /twice/],
  ["10.0.0.1:7000,10.0.0.2:55536", /at most 55535/],
  ["10.0.0.1:7000,10.0.0.2:0", /IP addresses/],
  ["10.0.0.1:7000,host:7000", /by address, not by name/],
  ["10.0.0.1:7000,", /IP addresses/],
  ["127.0.0.1:7000,127.000.000.001:7000", /IP addresses/],
  ["10.0.0.1:7000,10.0.0.300:7000", /IP addresses/],
  ["10.0.0.1:7000,10.0.0.2:07001", /IP addresses/],
  ["10.0.0.1:7000,[fe80::1%eth0]:7001", /IP addresses/],
  ["10.0.0.1:7000,[10.0.0.2]:7001", /IP addresses/],
  ["10.0.0.1:7000,fd00::1:7001", /IP addresses/],
  ["10.0.0.1:7000,0.0.0.0:7001", /stands for all addresses/],
  ["10.0.0.1:7000,[0::0]:7001", /stands for all addresses/],
  ["[fd00::1]:7000,[FD00:0::0:1]:7000", /names \[fd00::1\]:7000 twice/],
  ["[::ffff:10.0.0.1]:7000,10.0.0.1:7000", /gives port 7000 of 10\.0\.0\.1 to/],
  [
    "10.0.0.1:7000,10.0.0.1:17000",
    /port 17000 of 10\.0\.0\.1 to the cluster bus of .* another port/,
  ],
  ["10.0.0.1:17000,10.0.0.1:7000", /port 17000 of 10\.0\.0\.1 to 10\.0\.0\.1:17000 and/],
])("%s is refused", (text, why) => {
  expect(() => nodeAddresses(text, 2)).toThrow(why);
});
