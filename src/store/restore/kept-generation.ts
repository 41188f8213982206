import type { Offset, ReplicationIdFrom } from "../../base/history.ts";
import type { Moment } from "../ledger/ledger-reader.ts";

/** A generation that can be restored, as the database records it, or as its files show it without one. */
export interface KeptGeneration {
  readonly id: number;
  readonly dir: string;
  readonly state: "current" | "sealed";
  readonly sealedReason: string | undefined;
  readonly primaryName: string | undefined;
  readonly baseOffset: Offset;
  /** The database that the log's first command selects. */
  readonly streamDb: number;
  readonly logHeaderBytes: number;
  readonly rdbBytes: number;
  /** In hex; undefined where the database is lost. */
  readonly rdbCrc64: string | undefined;
  readonly rdbChecked: boolean;
  /** The last durable offset; without a database, the last one that the file may hold. */
  readonly durableOffset: Offset;
  /** The times of its first and last mark; undefined without a database. */
  readonly first: Moment | undefined;
  readonly last: Moment | undefined;
  readonly replicationIds: readonly ReplicationIdFrom[];
}
