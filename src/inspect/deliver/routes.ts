import type { ReplicaError } from "../../base/errors.ts";
import type { Parcel } from "./parcel.ts";
import type { TargetLink } from "./target-link.ts";

/** Parcels that go the same way; `broken` where there is none now. */
export type Way =
  | { readonly parcels: readonly Parcel[]; readonly link: TargetLink }
  | { readonly parcels: readonly Parcel[]; readonly broken: ReplicaError };

/** Which connection each key goes over. */
export interface Routes {
  /** Finds the ways of parcels, and opens what isn't open. A way that can't be opened comes with its reason. */
  ways(parcels: readonly Parcel[], signal: AbortSignal): Promise<readonly Way[]>;
  /** Another node has the slot from now on. @param address as `link` was told it. */
  moved(slot: number, address: string, link: TargetLink): void;
  /** The node that an `ASK` names, as `Parcel.askAt` has it; undefined where that can't be read. */
  asked(address: string, link: TargetLink): string | undefined;
  /** Something isn't where it was: the next `ways` asks anew. */
  doubt(link: TargetLink | undefined): void;
  close(): void;
}
