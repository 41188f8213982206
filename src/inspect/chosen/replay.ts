import type { ServerProgram } from "../../stock/server-program.ts";
import type { Disk } from "../../store/disk/disk.ts";
import type { PieceCheckers } from "../../store/pieces/piece-checkers.ts";
import type { Catalogue } from "../../store/restore/catalogue.ts";
import type { LogFindings } from "../../store/restore/log-scan.ts";
import type { RestorePoint } from "../../store/restore/restore-point.ts";
import type { NeededNames, NameLimits } from "../needs/needed-names.ts";

/** What choosing keys needs beside the selection. */
export interface ChooseOptions {
  readonly disk: Disk;
  readonly signal: AbortSignal;
  readonly checkers?: PieceCheckers | undefined;
  /** Called with the bytes of a file that are read so far. */
  readonly onProgress: (file: string, bytes: number, totalBytes: number) => void;
  /**
   * Finds the stock server that replays commands on the chosen keys. It is only asked where there are any.
   * @throws ReplicaError where there is none.
   */
  readonly server: () => Promise<ServerProgram>;
  /** Told before much work begins: a sentence for people, of what will take long or much memory. */
  readonly tell: (note: string) => void;
  /** How much memory names may take. */
  readonly limits?: NameLimits;
}

/** An RDB with the chosen keys and others, and how it came about. */
export interface ReplayedRdb {
  readonly path: string;
  readonly replayedCommands: number | undefined;
  readonly remove: () => Promise<void>;
}

/** What a replay works with. */
export interface Replay {
  readonly catalogue: Catalogue;
  readonly point: RestorePoint;
  readonly findings: LogFindings;
  readonly needed: NeededNames;
  readonly server: ServerProgram;
  readonly options: ChooseOptions;
}
