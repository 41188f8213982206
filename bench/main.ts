import { benchParts } from "./parts.ts";
import { benchRestart } from "./restart.ts";
import { benchStream } from "./stream.ts";

const STREAM_BYTES = 2_000_000_000;

/** `bun run bench [parts|stream|restart]`; all of them where none is named. */
const only = process.argv[2];
if (only === undefined || only === "parts") await benchParts();
if (only === undefined || only === "stream") await benchStream(STREAM_BYTES);
if (only === undefined || only === "restart") await benchRestart();
