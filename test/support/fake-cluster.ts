import { fakePrimary, type FakePrimary } from "./fake-primary.ts";

/** What a made-up node answers to each question, by its words; undefined: nothing, ever. */
export type NodeAnswers = (words: readonly string[]) => string | undefined;

/** A made-up node of a cluster. */
export interface FakeNode extends AsyncDisposable {
  readonly port: number;
  /** The words of each question. */
  readonly asked: string[][];
  stop(): Promise<void>;
}

export const DISABLED = "-ERR This instance has cluster support disabled\r\n";
export const NO_SHARDS = "-ERR unknown subcommand 'SHARDS'. Try CLUSTER HELP.\r\n";

/** A bulk string. */
export function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

/** Listens, and answers with the current result of `answers`. AUTH succeeds. */
export function fakeNode(answers: NodeAnswers, port?: number): FakeNode {
  const asked: string[][] = [];
  const listener: FakePrimary = fakePrimary(
    async (peer) => {
      for (;;) {
        const words = await peer.readCommand();
        if (words[0] === "AUTH") {
          await peer.send("+OK\r\n");
          continue;
        }
        asked.push(words);
        const said = answers(words);
        if (said !== undefined) await peer.send(said);
      }
    },
    { speaksFirst: true, ...(port === undefined ? {} : { port }) },
  );
  return {
    port: listener.port,
    asked,
    stop: () => listener.stop(),
    [Symbol.asyncDispose]: () => listener.stop(),
  };
}

/** What a primary that owns all slots says of itself and of others. */
export function nodeSaying(state: {
  readonly nodes: () => string;
  readonly epoch: () => number;
  readonly isOk?: boolean;
}): NodeAnswers {
  return ([command, what]) => {
    if (command === "INFO") return bulk("role:master\r\n");
    switch (what) {
      case "INFO":
        return bulk(
          `cluster_state:${state.isOk === false ? "fail" : "ok"}\r\ncluster_current_epoch:${state.epoch()}\r\n`,
        );
      case "NODES":
        return bulk(state.nodes());
      case "SHARDS":
        return NO_SHARDS;
      default:
        return "-ERR unknown subcommand\r\n";
    }
  };
}
