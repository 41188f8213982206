import { type Offset, parseReplicationId, type ReplicationId } from "../base/history.ts";
import { encodeCommand } from "../resp/encode.ts";
import { Backlog } from "./backlog.ts";
import { Connection, type ConnectionHost, type ReplicaAck } from "./connection.ts";
import { LiveData, type LiveWrite } from "./live.ts";
import { BaseData, DATABASES, DemoSnapshot } from "./rdb.ts";
import { randomHex40 } from "./random.ts";
import type { PayloadForm } from "./bulk-payload.ts";

/** The properties of an embedded primary. */
export interface EmbeddedPrimaryOptions {
  /** The same seed makes the same keys, and the same writes in the same order. */
  readonly seed: number;
  /** The number of keys that never change; live writes add a few more. */
  readonly keys: number;
  readonly valueBytes: number;
  /** The password of the user `default`; undefined: no AUTH is needed. */
  readonly password?: string | undefined;
  readonly payloadForm: PayloadForm;
  /** How far back a replica may resume. */
  readonly backlogBytes: number;
  /** 0 for none; a transaction counts as one write. */
  readonly writesPerSecond: number;
}

// How far an attached replica may fall behind before its link is closed, like Redis's
// client-output-buffer-limit for replicas.
const OUTPUT_BYTES = 8 * 1024 * 1024;
const WRITE_EVERY_MS = 20;
const PING_EVERY_SECONDS = 10;
const REPLICA_TIMEOUT_MS = 60_000;

const PING = encodeCommand("PING");
const GETACK = encodeCommand("REPLCONF", "GETACK", "*");

/**
 * A small Redis primary inside this process, for replication only. It stores no client's keys and answers no
 * key commands, but its handshake, snapshots, stream and partial resyncs are those of Redis 7, and a stock
 * server can be its replica.
 */
export class EmbeddedPrimary {
  /** The port on 127.0.0.1. */
  readonly port: number;
  readonly replid: ReplicationId = parseReplicationId(randomHex40());
  /** The form of the next bulk payload; replicas without `capa eof` always get `length`. */
  payloadForm: PayloadForm;

  readonly #options: EmbeddedPrimaryOptions;
  readonly #base: BaseData;
  readonly #live: LiveData;
  readonly #backlog: Backlog;
  readonly #listener: Bun.TCPSocketListener<Connection>;
  readonly #connections = new Set<Connection>();
  readonly #runId = randomHex40();
  readonly #startedMs = Date.now();
  readonly #timers: readonly NodeJS.Timeout[];
  #streamDatabase: number | undefined;
  #paused = false;
  #owedWrites = 0;
  #lastWriteMs = Date.now();
  #seconds = 0;
  #fullSyncs = 0;
  #partialSyncs = 0;
  #outrunReplicas = 0;

  private constructor(options: EmbeddedPrimaryOptions) {
    this.#options = options;
    this.payloadForm = options.payloadForm;
    this.#base = new BaseData(options);
    this.#live = new LiveData(options.seed);
    this.#backlog = new Backlog({ resumeBytes: options.backlogBytes, outputBytes: OUTPUT_BYTES });
    const host = this.#host();
    this.#listener = Bun.listen<Connection>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = new Connection(host, socket);
          this.#connections.add(socket.data);
        },
        data: (socket, bytes) => socket.data.onData(bytes),
        drain: (socket) => socket.data.pump(),
        close: (socket) => socket.data.onClose(),
        error: (socket) => socket.data.reset(),
      },
    });
    this.port = this.#listener.port;
    this.#timers = [
      setInterval(() => this.#onWriteTimer(), WRITE_EVERY_MS),
      setInterval(() => this.#onSecond(), 1000),
    ];
  }

  /** Makes up the data and listens on a free port of 127.0.0.1, until `stop`. */
  static async start(options: EmbeddedPrimaryOptions): Promise<EmbeddedPrimary> {
    return new EmbeddedPrimary(options);
  }

  /** The URL without the password. */
  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** The offset of the last byte of the stream. */
  get masterReplOffset(): Offset {
    return this.#backlog.endOffset;
  }

  /** The number of keys in each database, as the next snapshot would have them. */
  get keysPerDatabase(): readonly number[] {
    return this.#base.keysPerDatabase.map((keys, database) => keys + this.#live.keysIn(database));
  }

  /** How many syncs of each kind have begun. */
  get syncs(): { readonly full: number; readonly partial: number } {
    return { full: this.#fullSyncs, partial: this.#partialSyncs };
  }

  /** How many links were closed because the replica fell too far behind. */
  get outrunReplicas(): number {
    return this.#outrunReplicas;
  }

  /** What each attached replica has acknowledged. */
  acks(): readonly ReplicaAck[] {
    return this.#replicas().map((replica) => replica.ack);
  }

  /** Resets the links of all replicas, so that they reconnect and resume. */
  dropReplicas(): void {
    for (const replica of this.#replicas()) replica.reset();
  }

  /**
   * Stops the stream: `masterReplOffset` does not change until `resumeWrites`. As with Redis's CLIENT PAUSE,
   * neither PING nor GETACK is sent.
   */
  pauseWrites(): void {
    this.#paused = true;
  }

  /** Continues the stream. */
  resumeWrites(): void {
    this.#paused = false;
    this.#lastWriteMs = Date.now();
  }

  /** Closes every link and the port. */
  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
    // The port first: a replica reconnects at once when its link is reset.
    this.#listener.stop();
    for (const connection of this.#connections) connection.reset();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #replicas(): Connection[] {
    return [...this.#connections].filter((connection) => connection.isReplica);
  }

  #host(): ConnectionHost {
    const payloadForm = (): PayloadForm => this.payloadForm;
    return {
      replid: this.replid,
      password: this.#options.password,
      get payloadForm() {
        return payloadForm();
      },
      backlog: this.#backlog,
      beginFullSync: () => this.#beginFullSync(),
      countPartialSync: () => {
        this.#partialSyncs += 1;
      },
      info: (section) => this.#info(section),
      forget: (connection) => this.#connections.delete(connection),
    };
  }

  #beginFullSync(): { offset: Offset; snapshot: DemoSnapshot } {
    this.#fullSyncs += 1;
    const offset = this.#backlog.endOffset;
    const live = Array.from({ length: DATABASES }, (_, database) => this.#live.section(database));
    const snapshot = new DemoSnapshot({
      base: this.#base,
      live,
      replid: this.replid,
      offset,
      streamDatabase: this.#streamDatabase ?? 0,
      createdUnixSeconds: Math.floor(Date.now() / 1000),
    });
    // The new replica has seen no SELECT yet, so the stream repeats it.
    this.#streamDatabase = undefined;
    return { offset, snapshot };
  }

  #onWriteTimer(): void {
    if (this.#paused) return;
    const nowMs = Date.now();
    const { writesPerSecond } = this.#options;
    this.#owedWrites += ((nowMs - this.#lastWriteMs) / 1000) * writesPerSecond;
    this.#lastWriteMs = nowMs;
    // After a stall, make up for at most one second.
    this.#owedWrites = Math.min(this.#owedWrites, writesPerSecond);
    for (const write of this.#live.expire(nowMs)) this.#feedWrite(write);
    for (; this.#owedWrites >= 1; this.#owedWrites -= 1) this.#feedWrite(this.#live.next(nowMs));
    this.#afterFeed();
  }

  #onSecond(): void {
    const nowMs = Date.now();
    for (const replica of this.#replicas()) {
      if (replica.silenceMs(nowMs) > REPLICA_TIMEOUT_MS) replica.reset();
    }
    if (this.#paused || !this.#replicas().some((replica) => replica.isOnline)) return;
    this.#seconds += 1;
    if (this.#seconds % PING_EVERY_SECONDS === 0) this.#backlog.append(PING);
    this.#backlog.append(GETACK);
    this.#afterFeed();
  }

  #feedWrite(write: LiveWrite): void {
    if (this.#streamDatabase !== write.database) {
      this.#streamDatabase = write.database;
      this.#backlog.append(encodeCommand("SELECT", write.database));
    }
    for (const command of write.commands) this.#backlog.append(encodeCommand(...command));
  }

  #afterFeed(): void {
    for (const replica of this.#replicas()) {
      replica.pump();
      if (!replica.isOutrun) continue;
      this.#outrunReplicas += 1;
      replica.reset();
    }
  }

  #info(section: string | undefined): string {
    const wanted = (name: string): boolean =>
      section === undefined || ["all", "everything", "default", name].includes(section);
    const sections: string[] = [];
    if (wanted("server")) sections.push(this.#infoServer());
    if (wanted("replication")) sections.push(this.#infoReplication());
    if (wanted("keyspace")) sections.push(this.#infoKeyspace());
    return sections.join("\r\n");
  }

  #infoServer(): string {
    return infoSection("Server", [
      "redis_version:7.0.0",
      "redis_mode:standalone",
      `process_id:${process.pid}`,
      `run_id:${this.#runId}`,
      `tcp_port:${this.port}`,
      `uptime_in_seconds:${Math.floor((Date.now() - this.#startedMs) / 1000)}`,
    ]);
  }

  #infoReplication(): string {
    const nowMs = Date.now();
    const replicas = this.#replicas();
    const { firstResumeOffset, endOffset, resumeBytes } = this.#backlog;
    return infoSection("Replication", [
      "role:master",
      `connected_slaves:${replicas.length}`,
      ...replicas.map((replica, at) => `slave${at}:${replica.infoLine(nowMs)}`),
      "master_failover_state:no-failover",
      `master_replid:${this.replid}`,
      `master_replid2:${"0".repeat(40)}`,
      `master_repl_offset:${endOffset}`,
      "second_repl_offset:-1",
      "repl_backlog_active:1",
      `repl_backlog_size:${resumeBytes}`,
      `repl_backlog_first_byte_offset:${firstResumeOffset}`,
      `repl_backlog_histlen:${endOffset - firstResumeOffset + 1}`,
    ]);
  }

  #infoKeyspace(): string {
    const lines = this.keysPerDatabase.map((keys, database) => `db${database}:keys=${keys}`);
    return infoSection("Keyspace", lines);
  }
}

function infoSection(title: string, lines: readonly string[]): string {
  return [`# ${title}`, ...lines, ""].join("\r\n");
}
