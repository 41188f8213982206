import { expect, test } from "bun:test";
import { nodesConf } from "../../../src/cluster/slots/nodes-conf.ts";

const node = (letter: string, port: number) => ({
  id: letter.repeat(40),
  host: "127.0.0.1",
  port,
  busPort: port + 10_000,
});

test("a node's file has its own line first, each node's slots, and its own open slots alone", () => {
  const nodes = [
    {
      ...node("a", 7000),
      slots: [
        [0, 5],
        [7, 7],
      ] as const,
      migrating: [{ slot: 7, peer: 1 }],
    },
    { ...node("b", 7001), slots: [], importing: [{ slot: 7, peer: 0 }] },
  ];
  const [a, b] = ["a".repeat(40), "b".repeat(40)];
  expect(nodesConf(nodes, 0))
    .toBe(`${a} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5 7 [7->-${b}]
${b} 127.0.0.1:7001@17001 master - 0 0 2 connected
vars currentEpoch 2 lastVoteEpoch 0
`);
  expect(nodesConf(nodes, 1))
    .toBe(`${b} 127.0.0.1:7001@17001 myself,master - 0 0 2 connected [7-<-${a}]
${a} 127.0.0.1:7000@17000 master - 0 0 1 connected 0-5 7
vars currentEpoch 2 lastVoteEpoch 0
`);
});
