import { afterEach, describe, expect, test } from "bun:test";
import type { PayloadForm } from "../../src/demo/bulk-payload.ts";
import { EmbeddedPrimary, type EmbeddedPrimaryOptions } from "../../src/demo/primary.ts";
import { Crc64 } from "../../src/rdb/crc64.ts";
import { until } from "../support/wait.ts";
import { RawLink } from "./raw-link.ts";

const OPTIONS: EmbeddedPrimaryOptions = {
  seed: 1,
  keys: 200,
  valueBytes: 50,
  payloadForm: "length",
  backlogBytes: 1024 * 1024,
  writesPerSecond: 500,
};

const opened: Disposable[] = [];
afterEach(() => {
  for (const one of opened.splice(0).toReversed()) one[Symbol.dispose]();
});

async function start(options: Partial<EmbeddedPrimaryOptions> = {}): Promise<EmbeddedPrimary> {
  const primary = await EmbeddedPrimary.start({ ...OPTIONS, ...options });
  opened.push(primary);
  return primary;
}

async function connect(primary: EmbeddedPrimary): Promise<RawLink> {
  const link = await RawLink.connect(primary.port);
  opened.push(link);
  return link;
}

function resp(...args: string[]): string {
  return `*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join("")}`;
}

function expectIntact(rdb: Buffer): void {
  const checksum = new Crc64();
  checksum.update(rdb.subarray(0, -8));
  expect(rdb.toString("latin1", 0, 9)).toBe("REDIS0010");
  expect(rdb.readBigUInt64LE(rdb.length - 8)).toBe(checksum.value);
}

interface FullSync {
  replid: string;
  offset: number;
  form: PayloadForm;
  rdb: Buffer;
}

async function readPayload(link: RawLink): Promise<{ form: PayloadForm; rdb: Buffer }> {
  const { line, keepalives } = await link.lineAfterKeepalives();
  expect(keepalives).toBeGreaterThan(0);
  const mark = /^\$EOF:([0-9a-f]{40})$/.exec(line)?.[1];
  if (mark !== undefined) return { form: "eof", rdb: await link.until(mark) };
  expect(line).toMatch(/^\$\d+$/);
  return { form: "length", rdb: await link.bytes(Number(line.slice(1))) };
}

async function fullSync(link: RawLink): Promise<FullSync> {
  expect(await link.ask("REPLCONF capa eof capa psync2")).toBe("+OK");
  const [, replid = "", offset = ""] =
    /^\+FULLRESYNC ([0-9a-f]{40}) (\d+)$/.exec(await link.ask("PSYNC ? -1")) ?? [];
  return { replid, offset: Number(offset), ...(await readPayload(link)) };
}

/** The stream after `offset`, up to where the paused primary ends. */
async function streamUntilPause(primary: EmbeddedPrimary, link: RawLink, offset: number) {
  primary.pauseWrites();
  return await link.bytes(primary.masterReplOffset - offset);
}

describe("the handshake", () => {
  for (const form of ["length", "eof"] as const) {
    test(`succeeds if every command arrives byte by byte, payload form ${form}`, async () => {
      const primary = await start({ payloadForm: form });
      const link = await connect(primary);
      await link.sendByByte(resp("PING"));
      expect(await link.line()).toBe("+PONG");
      await link.sendByByte("ping\r\n");
      expect(await link.line()).toBe("+PONG");
      await link.sendByByte(resp("REPLCONF", "listening-port", "7777"));
      expect(await link.line()).toBe("+OK");
      await link.sendByByte(resp("REPLCONF", "ip-address", "10.1.2.3"));
      expect(await link.line()).toBe("+OK");
      await link.sendByByte(resp("REPLCONF", "capa", "eof", "capa", "psync2"));
      expect(await link.line()).toBe("+OK");
      await link.sendByByte(resp("REPLCONF", "version", "8.0.1"));
      expect(await link.line()).toBe("+OK");
      await link.sendByByte(resp("PSYNC", "?", "-1"));
      const [, replid = "", offset = ""] =
        /^\+FULLRESYNC (\w{40}) (\d+)$/.exec(await link.line()) ?? [];
      expect(replid).toBe(primary.replid);
      const payload = await readPayload(link);
      expect(payload.form).toBe(form);
      expectIntact(payload.rdb);

      await link.sendByByte(resp("REPLCONF", "ACK", offset, "FACK", "0"));
      const stream = await streamUntilPause(primary, link, Number(offset));
      expect(stream.toString("latin1", 0, 13)).toBe("*2\r\n$6\r\nSELEC");
      expect(primary.acks()).toEqual([{ ack: Number(offset), fack: 0, listeningPort: 7777 }]);
      expect(primary.syncs).toEqual({ full: 1, partial: 0 });
    });
  }

  test("answers several commands in one packet in order", async () => {
    const link = await connect(await start());
    link.send(`${resp("PING")}PING\r\n${resp("REPLCONF", "listening-port", "1")}PING there\r\n`);
    expect(await link.line()).toBe("+PONG");
    expect(await link.line()).toBe("+PONG");
    expect(await link.line()).toBe("+OK");
    expect(await link.line()).toBe("$5");
    expect(await link.line()).toBe("there");
  });

  test("refuses PSYNC while a reply is unsent", async () => {
    const primary = await start();
    const link = await connect(primary);
    link.send("PING\r\nPSYNC ? -1\r\n");
    expect(await link.line()).toBe("+PONG");
    expect(await link.line()).toBe("-ERR SYNC and PSYNC are invalid with pending output");
    expect(primary.syncs.full).toBe(0);
  });

  test("sends the same errors as Redis", async () => {
    const link = await connect(await start());
    expect(await link.ask("REPLCONF rdb-colour 1")).toStartWith("-ERR Unrecognized REPLCONF");
    expect(await link.ask("REPLCONF capa")).toBe("-ERR syntax error");
    expect(await link.ask("REPLCONF listening-port x")).toStartWith("-ERR value is not an integer");
    expect(await link.ask("PSYNC ? abc")).toStartWith("-ERR value is not an integer");
    expect(await link.ask("GET key")).toBe(
      "-ERR unknown command 'GET', with args beginning with: 'key' ",
    );
    expect(await link.ask("AUTH secret")).toStartWith("-ERR AUTH <password> called without");
  });

  test("answers a malformed command with an error and closes the link", async () => {
    const link = await connect(await start());
    expect(await link.ask("*x")).toStartWith("-ERR Protocol error");
    await link.closed;
  });

  test("answers SYNC with the payload, without FULLRESYNC, then the stream", async () => {
    const primary = await start({ payloadForm: "eof" });
    const link = await connect(primary);
    link.send("SYNC\r\n");
    const payload = await readPayload(link);
    // Without `capa eof` the payload has the length form.
    expect(payload.form).toBe("length");
    expectIntact(payload.rdb);
    expect(payload.rdb.toString("latin1")).toContain(primary.replid);
    expect(await link.line()).toBe("*2");
  });

  test("closes an rdb-only link after the payload, without a stream", async () => {
    for (const form of ["length", "eof"] as const) {
      const link = await connect(await start({ payloadForm: form }));
      expect(await link.ask("REPLCONF rdb-only 1")).toBe("+OK");
      expectIntact((await fullSync(link)).rdb);
      await link.closed;
      expect(link.unreadBytes).toBe(0);
    }
  });
});

describe("a password", () => {
  test("is required, and AUTH lets in", async () => {
    const link = await connect(await start({ password: "opensesame" }));
    expect(await link.ask("PING")).toBe("-NOAUTH Authentication required.");
    expect(await link.ask("PSYNC ? -1")).toStartWith("-NOAUTH");
    expect(await link.ask("AUTH wrong")).toStartWith("-WRONGPASS");
    expect(await link.ask("AUTH nobody opensesame")).toStartWith("-WRONGPASS");
    expect(await link.ask("PING")).toStartWith("-NOAUTH");
    expect(await link.ask("AUTH opensesame")).toBe("+OK");
    expect(await link.ask("PING")).toBe("+PONG");
  });

  test("works with the user default too", async () => {
    const link = await connect(await start({ password: "opensesame" }));
    expect(await link.ask("AUTH default opensesame")).toBe("+OK");
    expectIntact((await fullSync(link)).rdb);
  });
});

describe("the stream", () => {
  test("begins after the first ACK in the EOF form", async () => {
    const primary = await start({ payloadForm: "eof" });
    const link = await connect(primary);
    const sync = await fullSync(link);
    await until(() => primary.masterReplOffset > sync.offset + 500, { what: "more stream" });
    expect(link.unreadBytes).toBe(0);
    link.send(resp("REPLCONF", "ACK", String(sync.offset)));
    const stream = await streamUntilPause(primary, link, sync.offset);
    expect(stream.length).toBeGreaterThan(500);
  });

  test("asks for an ACK every second, and consists of whole commands", async () => {
    const primary = await start();
    const link = await connect(primary);
    const sync = await fullSync(link);
    await Bun.sleep(2200);
    const stream = (await streamUntilPause(primary, link, sync.offset)).toString("latin1");
    expect(stream.split(resp("REPLCONF", "GETACK", "*")).length).toBeGreaterThan(2);
    for (const command of ["SET", "INCR", "LPUSH", "MULTI", "EXEC", "EXPIREAT", "HSET"]) {
      expect(stream).toContain(`$${command.length}\r\n${command}\r\n`);
    }
  });

  test("contains no reply, whatever the replica sends", async () => {
    const primary = await start({ writesPerSecond: 0 });
    const link = await connect(primary);
    const { offset } = await fullSync(link);
    primary.pauseWrites();
    await link.bytes(primary.masterReplOffset - offset);
    link.send(
      `PING\r\nINFO\r\n\nREPLCONF GETACK *\r\n${resp("REPLCONF", "ACK", "5", "FACK", "3")}`,
    );
    await until(() => primary.acks()[0]?.ack === 5, { what: "the ACK" });
    expect(primary.acks()[0]?.fack).toBe(3);
    await Bun.sleep(50);
    expect(link.unreadBytes).toBe(0);
  });

  test("never lowers an acknowledged offset", async () => {
    const primary = await start();
    const link = await connect(primary);
    await fullSync(link);
    link.send("REPLCONF ACK 50 FACK 40\r\nREPLCONF ACK 20 FACK 10\r\nREPLCONF ACK x FACK -3\r\n");
    link.send("REPLCONF ACK 51\r\n");
    await until(() => primary.acks()[0]?.ack === 51, { what: "the ACK" });
    expect(primary.acks()[0]?.fack).toBe(40);
  });
});

describe("a partial resync", () => {
  test("continues with exactly the bytes that follow, even within a command", async () => {
    const primary = await start();
    const first = await connect(primary);
    const { replid, offset } = await fullSync(first);
    await until(() => primary.masterReplOffset > offset + 2000, { what: "more stream" });
    const stream = await streamUntilPause(primary, first, offset);
    const end = primary.masterReplOffset;

    for (const from of [offset + 1, offset + 2, offset + 777, end - 1, end, end + 1]) {
      const link = await connect(primary);
      expect(await link.ask("REPLCONF capa psync2")).toBe("+OK");
      expect(await link.ask(`PSYNC ${replid} ${from}`)).toBe(`+CONTINUE ${replid}`);
      const rest = await link.bytes(end - from + 1);
      expect(rest.equals(stream.subarray(from - offset - 1))).toBe(true);
      expect(link.unreadBytes).toBe(0);
    }
    expect(primary.syncs).toEqual({ full: 1, partial: 6 });

    // The old link continues to receive the stream.
    primary.resumeWrites();
    const more = await first.bytes(100);
    expect(more.toString("latin1", 0, 1)).toBe("*");
  });

  test("sends no id to a replica without psync2", async () => {
    const primary = await start();
    const link = await connect(primary);
    expect(await link.ask(`PSYNC ${primary.replid} 1`)).toBe("+CONTINUE");
  });

  test("is refused past the end, before the backlog, and for another history", async () => {
    const primary = await start({ backlogBytes: 1000 });
    await until(() => primary.masterReplOffset > 3000, { what: "more stream" });
    primary.pauseWrites();
    const end = primary.masterReplOffset;
    for (const ask of [
      `PSYNC ${primary.replid} ${end + 2}`,
      `PSYNC ${primary.replid} ${end - 1000}`,
      `PSYNC ${"0".repeat(40)} ${end}`,
    ]) {
      const link = await connect(primary);
      expect(await link.ask(ask)).toBe(`+FULLRESYNC ${primary.replid} ${end}`);
    }
    const link = await connect(primary);
    expect(await link.ask(`PSYNC ${primary.replid} ${end - 999}`)).toBe("+CONTINUE");
  });

  test("follows after the links are dropped", async () => {
    const primary = await start();
    const link = await connect(primary);
    const { replid, offset } = await fullSync(link);
    const before = await link.bytes(300);
    primary.dropReplicas();
    await link.closed;
    expect(primary.acks()).toEqual([]);

    const again = await connect(primary);
    const reply = await again.ask(`PSYNC ${replid} ${offset + 301}`);
    expect(reply).toBe("+CONTINUE");
    const after = await again.bytes(300);

    const whole = await connect(primary);
    await whole.ask(`PSYNC ${replid} ${offset + 1}`);
    expect((await whole.bytes(600)).equals(Buffer.concat([before, after]))).toBe(true);
  });
});

describe("limits", () => {
  test("sends a payload of many megabytes as the socket accepts it", async () => {
    const primary = await start({ keys: 40_000, valueBytes: 1000 });
    const link = await RawLink.connect(primary.port);
    opened.push(link);
    link.send("SYNC\r\n");
    const { line } = await link.lineAfterKeepalives();
    const lengthBytes = Number(line.slice(1));
    expect(lengthBytes).toBeGreaterThan(30_000_000);
    const checksum = new Crc64();
    let left = lengthBytes - 8;
    while (left > 0) {
      const chunk = await link.bytes(Math.min(left, 1_000_000));
      checksum.update(chunk);
      left -= chunk.length;
    }
    expect((await link.bytes(8)).readBigUInt64LE()).toBe(checksum.value);
  });

  test("closes a replica that does not read once it is too far behind", async () => {
    const primary = await start({ writesPerSecond: 200_000 });
    // On a busy machine these writes take all of this process's time, which the sync needs first.
    primary.pauseWrites();
    const link = await connect(primary);
    await fullSync(link);
    link.pause();
    primary.resumeWrites();
    const closed = { what: "the link to be closed" };
    await until(() => primary.outrunReplicas === 1, closed);
    expect(primary.acks()).toEqual([]);
  });

  test("INFO lists the replicas", async () => {
    const primary = await start();
    const replica = await connect(primary);
    await replica.ask("REPLCONF listening-port 7001");
    await fullSync(replica);
    replica.send("REPLCONF ACK 1\r\n");
    await until(() => primary.acks()[0]?.ack === 1, { what: "the ACK" });
    const client = await connect(primary);
    client.send("INFO replication\r\n");
    await client.line();
    const info = (await client.until("repl_backlog_histlen")).toString();
    expect(info).toContain("role:master\r\nconnected_slaves:1\r\n");
    expect(info).toContain("slave0:ip=127.0.0.1,port=7001,state=online,offset=1,lag=0\r\n");
    expect(info).toContain(`master_replid:${primary.replid}\r\n`);
    expect(info).toMatch(/\r\nmaster_repl_offset:\d+\r\n/);
  });

  test("sends no stream while writes are paused", async () => {
    const primary = await start();
    const link = await connect(primary);
    await fullSync(link);
    primary.pauseWrites();
    const { masterReplOffset } = primary;
    await Bun.sleep(1200);
    expect(primary.masterReplOffset).toBe(masterReplOffset);
    primary.resumeWrites();
    await until(() => primary.masterReplOffset > masterReplOffset, { what: "more stream" });
  });
});
