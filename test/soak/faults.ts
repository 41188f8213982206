import { DIRECTIONS, type Effect } from "../support/fault-plan.ts";
import type { Random } from "../support/fill.ts";
import { ReplyError } from "../support/resp.ts";
import { until } from "../support/wait.ts";
import type { Comparer } from "./compare.ts";
import { type Fleet, forgetSnapshot, MAX_MEMORY } from "./fleet.ts";

/** What a fault acts on, and who checks the outcome. */
export interface Scene {
  readonly fleet: Fleet;
  readonly comparer: Comparer;
  readonly random: Random;
}

type Fault = (scene: Scene) => Promise<void>;

/** Every kind of fault and disturbance. Each returns when it is over, before all have recovered. */
export const FAULTS: Readonly<Record<string, Fault>> = {
  "primary killed": async ({ fleet: { primary }, random }) => {
    await primary.server.kill9();
    await Bun.sleep(random.below(1_000));
    // It restarts from its last snapshot and has lost later writes: the replica may be ahead.
    await primary.server.restart();
  },
  "primary stopped": async ({ fleet: { primary } }) => {
    // It saves everything, so its history continues.
    await primary.server.restart();
  },
  "primary emptied": async ({ fleet: { primary } }) => {
    await primary.server.kill9();
    forgetSnapshot(primary.server);
    await primary.server.restart();
  },
  "replica killed": async ({ fleet, comparer, random }) => {
    const look = () => comparer.promised();
    // The first kill waits until something is acknowledged; later ones come at any moment.
    const promised =
      comparer.acknowledgedChecks > 0
        ? await look()
        : await until(look, { what: "something to be acknowledged", timeoutMs: 60_000 });
    await fleet.endReplica("killed");
    if (promised !== undefined) comparer.lookUp(promised);
    await Bun.sleep(random.below(1_000));
    fleet.startReplica(random);
  },
  "replica stopped": async ({ fleet, random }) => {
    await fleet.endReplica("stopped");
    await Bun.sleep(random.below(1_000));
    fleet.startReplica(random);
  },
  "replica without a primary": async ({ fleet, random }) => {
    await fleet.askReplica("REPLICAOF", "NO", "ONE");
    await Bun.sleep(random.below(1_500));
    await fleet.repoint();
  },
  "downstream killed": async ({ fleet, random }) => {
    const downstream = fleet.downstreams[random.below(fleet.downstreams.length)]!;
    await downstream.kill9();
    if (random.below(2) === 0) forgetSnapshot(downstream);
    await downstream.restart();
  },
  "downstream stopped": async ({ fleet, random }) => {
    await fleet.downstreams[random.below(fleet.downstreams.length)]!.restart();
  },
  "downstream links broken": async ({ fleet }) => {
    await fleet.askReplica("CLIENT", "KILL", "TYPE", "replica");
  },
  "planned failover": async ({ fleet }) => {
    const { primary, heir } = fleet;
    await fleet.recovered();
    const address = [heir.server.host, heir.server.port];
    // The heir is online for the primary only after its first ACK.
    await until(() => primary.server.send("FAILOVER", "TO", ...address, "TIMEOUT", 20_000), {
      what: "the failover to begin",
    });
    await until(async () => (await primary.server.info("replication"))["role"] === "slave", {
      what: "the failover to end",
      timeoutMs: 50_000,
    });
    fleet.swap();
    await fleet.repoint();
  },
  "failover after a kill": async (scene) => failOver(scene, 0),
  // The replica is ahead of the heir: its history ends beyond the point where the heir's begins.
  "failover that loses": async (scene) => failOver(scene, 50 + scene.random.below(500)),
  "link reset": async (scene) => harmLink(scene, { kind: "reset" }),
  "link silent": async (scene) => {
    await harmLink(scene, { kind: "black-hole" });
    // Shorter or longer than the replica's --timeout.
    await Bun.sleep(1_000 + scene.random.below(4_000));
  },
  "link half closed": async (scene) => harmLink(scene, { kind: "half-close" }),
  "link slow": async (scene) => {
    const { random } = scene;
    const effects: readonly [Effect, lastsBytes: number][] = [
      [{ kind: "delay", ms: 50 + random.below(400) }, 500_000],
      [{ kind: "rate", bytesPerSecond: 100_000 + random.below(400_000) }, 500_000],
      [{ kind: "single-bytes" }, 10_000],
    ];
    const [effect, lastsBytes] = effects[random.below(effects.length)]!;
    await harmLink(scene, effect, lastsBytes);
    await Bun.sleep(random.below(3_000));
  },
  "new snapshot": async ({ fleet }) => {
    try {
      await fleet.askReplica("BGSAVE");
    } catch (error) {
      // Not possible while it isn't connected.
      if (!(error instanceof ReplyError)) throw error;
    }
  },
  verify: async ({ comparer }) => comparer.verify(),
  "memory scarce": async ({
    fleet: {
      primary: { server },
    },
    random,
  }) => {
    const { used_memory: usedBytes } = await server.info("memory");
    await server.send("CONFIG", "SET", "maxmemory", Math.floor(Number(usedBytes) * 0.9));
    await Bun.sleep(500 + random.below(1_000));
    await server.send("CONFIG", "SET", "maxmemory", MAX_MEMORY);
  },
};

/** Kills the primary and promotes the heir; before that, the primary may write alone for `aloneMs`. */
async function failOver({ fleet }: Scene, aloneMs: number): Promise<void> {
  const { primary, heir } = fleet;
  await fleet.recovered();
  if (aloneMs > 0) {
    await heir.server.send("REPLICAOF", "NO", "ONE");
    await Bun.sleep(aloneMs);
  }
  await primary.server.kill9();
  if (aloneMs === 0) await heir.server.send("REPLICAOF", "NO", "ONE");
  fleet.swap();
  await fleet.repoint();
  await primary.server.restart();
  await primary.server.send("REPLICAOF", heir.server.host, heir.server.port);
}

/** Applies a fault to one direction of the replica's connections to the primary. */
async function harmLink(
  { fleet, random }: Scene,
  effect: Effect,
  lastsBytes?: number,
): Promise<void> {
  const direction = DIRECTIONS[random.below(DIRECTIONS.length)]!;
  await fleet.primary.link.inject(direction, effect, lastsBytes);
}

/** Deals all kinds of faults in random order, again and again. */
export class Deck {
  readonly #random: Random;
  #kinds: string[] = [];
  /** How many times every kind has been dealt. */
  rounds = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  deal(): string {
    if (this.#kinds.length === 0) {
      this.#kinds = Object.keys(FAULTS);
      for (let i = this.#kinds.length - 1; i > 0; i--) {
        const j = this.#random.below(i + 1);
        [this.#kinds[i], this.#kinds[j]] = [this.#kinds[j]!, this.#kinds[i]!];
      }
    }
    const kind = this.#kinds.pop()!;
    if (this.#kinds.length === 0) this.rounds++;
    return kind;
  }
}
