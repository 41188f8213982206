/** An S3 server that drops what it is sent and has nothing: what sending costs without a store. Prints its port. */
const EMPTY =
  '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>';
const MISSING = '<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>';

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    if (request.method === "PUT") {
      for await (const _ of request.body ?? []);
      return new Response(null, { status: 200 });
    }
    if (request.method !== "GET") return new Response(null, { status: 204 });
    const isList = new URL(request.url).searchParams.has("list-type");
    return isList ? new Response(EMPTY) : new Response(MISSING, { status: 404 });
  },
});
console.log(server.port);
