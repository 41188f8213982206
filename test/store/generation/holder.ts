import { DataDirectory } from "../../../src/store/generation/data-directory.ts";
import { realDisk } from "../../../src/store/disk/disk.ts";

// A second process for the tests of the lock: holds argv[2] until it is killed, or prints why it can't.
try {
  const directory = new DataDirectory(process.argv[2]!, realDisk, Date);
  console.log("held");
  setInterval(() => directory.path, 1000);
} catch (error) {
  console.log(error instanceof Error ? error.message : String(error));
}
