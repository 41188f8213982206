import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

/*
 * `bun bench/s3-sink.ts [--keep DIR] [--port N]`: an S3 server that drops what it is sent: what sending costs without a
 * store. With --keep it keeps objects in the folder DIR, and sends them straight from the page cache. Prints its port.
 */
const { values } = parseArgs({
  options: { keep: { type: "string" }, port: { type: "string", default: "0" } },
});
const { keep } = values;

const MISSING = '<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>';

const server = Bun.serve({
  port: Number(values.port),
  hostname: "127.0.0.1",
  async fetch(request) {
    if (request.method === "PUT") {
      if (keep === undefined) for await (const _ of request.body ?? []);
      else await keepObject(join(keep, keyIn(new URL(request.url).pathname)), request);
      return new Response(null, { status: 200 });
    }
    if (request.method !== "GET") return new Response(null, { status: 204 });
    const { pathname, searchParams } = new URL(request.url);
    if (searchParams.has("list-type"))
      return new Response(listOf(searchParams.get("prefix") ?? ""));
    return objectAt(keyIn(pathname), request.headers.get("range"));
  },
});
console.log(server.port);

/** The key in a path, which begins with the bucket. */
function keyIn(path: string): string {
  return path.split("/").slice(2).map(decodeURIComponent).join("/");
}

async function keepObject(path: string, request: Request): Promise<void> {
  fs.mkdirSync(dirname(path), { recursive: true });
  await Bun.write(path, await request.arrayBuffer());
}

function objectAt(key: string, range: string | null): Response {
  const path = join(keep ?? "", key);
  if (keep === undefined || !fs.existsSync(path)) return new Response(MISSING, { status: 404 });
  const file = Bun.file(path);
  const asked = /^bytes=(\d+)-(\d+)$/.exec(range ?? "");
  if (asked === null) return new Response(file);
  const [from, to] = [Number(asked[1]), Math.min(file.size, Number(asked[2]) + 1)];
  const headers = { "content-range": `bytes ${from}-${to - 1}/${file.size}` };
  return new Response(file.slice(from, to), { status: 206, headers });
}

/** All that a folder holds, in one page. */
function listOf(prefix: string): string {
  const dir = join(keep ?? "", prefix);
  const isThere = keep !== undefined && fs.existsSync(dir);
  const entries = isThere ? fs.readdirSync(dir, { withFileTypes: true }) : [];
  const listed = entries.map((entry) => {
    if (entry.isDirectory())
      return `<CommonPrefixes><Prefix>${prefix}${entry.name}/</Prefix></CommonPrefixes>`;
    const { size, mtime } = fs.statSync(join(dir, entry.name));
    return `<Contents><Key>${prefix}${entry.name}</Key><Size>${size}</Size><LastModified>${mtime.toISOString()}</LastModified></Contents>`;
  });
  return `<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>${listed.join("")}</ListBucketResult>`;
}
