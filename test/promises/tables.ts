import { archive } from "./archive.ts";
import { changedDirectory } from "./changed-directory.ts";
import { dependencies } from "./dependencies.ts";
import { hostilePrimary } from "./hostile-primary.ts";
import { http } from "./http.ts";
import { localUser } from "./local-user.ts";
import type { HeldPromise } from "./mutation.ts";
import { network } from "./network.ts";
import { port } from "./port.ts";

/** The promises of SECURITY.md, by its sections. */
export const tables: Readonly<Record<string, readonly HeldPromise[]>> = {
  "A hostile primary, or somebody who impersonates it": hostilePrimary,
  "Somebody on the network in between": network,
  "A client of the replica's port": port,
  HTTP: http,
  "A local user": localUser,
  "A data directory that was changed": changedDirectory,
  "An archive": archive,
  Dependencies: dependencies,
};
