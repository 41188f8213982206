import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import {
  answers,
  type S3Server,
  ServerProcesses,
  serverOf,
  startedOnFreePorts,
} from "./s3-server.ts";
import { fetched, programCommand, readStamp } from "./server-catalog.ts";

export interface RadosgwOptions {
  /** How much it may hold, in bytes, all of it in memory. */
  readonly capacityBytes?: number;
}

const CAPACITY_BYTES = 2 * 1024 ** 3;

/** Whether its tests run: where it has been fetched, and in CI in any case, so that they fail where it could not be. */
export const hasRadosgw = readStamp("radosgw") !== undefined || process.env["CI"] === "true";

/**
 * Starts Ceph's S3 server, radosgw, on a RADOS of its own: one monitor, and one OSD that holds everything in memory. It
 * checks signatures by the newest rules and knows conditions.
 * @throws Error with the log of what doesn't start.
 */
export async function startRadosgw(options: RadosgwOptions = {}): Promise<S3Server> {
  return await startedOnFreePorts(() => start(options));
}

async function start({ capacityBytes = CAPACITY_BYTES }: RadosgwOptions): Promise<S3Server> {
  const { dir, stamp } = fetched("radosgw");
  const processes = new ServerProcesses("radosgw");
  const [monitorPort, port] = [freePort(), freePort()];
  const fsid = crypto.randomUUID();
  const monitor = `[v2:127.0.0.1:${monitorPort}/0]`;
  const command = (program: string, ...args: string[]) =>
    programCommand(dir, stamp, program).concat("-c", processes.file("ceph.conf"), args);
  const run = (program: string, ...args: string[]) =>
    processes.run(program, command(program, ...args));
  try {
    for (const name of ["mon", "osd", "rgw"]) mkdirSync(processes.file(name));
    const folders = stamp.libraryPaths.map((path) => join(dir, path));
    const libraries = folders.find((path) => !path.endsWith("/ceph")) ?? "";
    const settings = settingsOf({ fsid, monitor, port, capacityBytes, libraries });
    writeFileSync(processes.file("ceph.conf"), settings(processes));
    const [monmap, osdmap] = [processes.file("monmap"), processes.file("osdmap")];
    await run("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, monmap);
    // The monitor begins with a map that has the OSD, so nobody has to log in to announce it.
    await run("osdmaptool", "--createsimple", "1", osdmap);
    await run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--osdmap", osdmap);
    processes.start("ceph-mon", command("ceph-mon", "-f", "-i", "a"));
    // It asks the monitor, once that is up.
    await run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", crypto.randomUUID());
    processes.start("ceph-osd", command("ceph-osd", "-f", "-i", "0"));
    const user = await run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test");
    const { keys } = JSON.parse(user) as { keys: { access_key: string; secret_key: string }[] };
    processes.start("radosgw", command("radosgw", "-f", "-n", "client.rgw"));
    const endpoint = `http://127.0.0.1:${port}`;
    await processes.up("radosgw to answer", () => answers(endpoint));
    const [accessKey, secretKey] = [keys[0]!.access_key, keys[0]!.secret_key];
    return serverOf(processes, { endpoint, region: "us-east-1", accessKey, secretKey });
  } catch (error) {
    await processes.end();
    throw error;
  }
}

interface Settings {
  readonly fsid: string;
  readonly monitor: string;
  readonly port: number;
  readonly capacityBytes: number;
  /** The folder of Ceph's plug-ins. */
  readonly libraries: string;
}

function settingsOf({ fsid, monitor, port, capacityBytes, libraries }: Settings) {
  return (processes: ServerProcesses): string =>
    `[global]
fsid = ${fsid}
mon host = ${monitor}
auth cluster required = none
auth service required = none
auth client required = none
# Without keys nothing can be encrypted.
ms mon client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
ms bind ipv6 = false
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = ${capacityBytes}
osd class dir = ${libraries}/rados-classes
osd class load list = *
osd class default list = *
plugin dir = ${libraries}/ceph
erasure code dir = ${libraries}/ceph/erasure-code
# A monitor alone has nobody to wait for.
paxos propose interval = 0.02
paxos min wait = 0.01
mon data = ${processes.file("mon")}
osd data = ${processes.file("osd")}
rgw data = ${processes.file("rgw")}
run dir = ${processes.file("rgw")}
crash dir = ${processes.file("rgw")}
admin socket =
keyring = /dev/null
log to stderr = true
log file =
mon cluster log file =
debug rocksdb = 0/0
debug rgw = 0/0
rgw thread pool size = 32
# Without it an answer in two packets takes 40 ms.
rgw frontends = beast endpoint=127.0.0.1:${port} tcp_nodelay=1
`;
}
