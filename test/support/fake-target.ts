import { ByteQueue } from "./resp.ts";

/** A server that answers every command by a function, for versions and states that no real one here has. */
export class FakeTarget implements Disposable {
  /** Every command, in order: its words. */
  readonly commands: string[][] = [];
  readonly #listener: Bun.TCPSocketListener<ByteQueue>;

  /** @param answer the encoded reply to a command's words; undefined closes the connection. */
  constructor(answer: (words: readonly string[]) => string | undefined) {
    this.#listener = Bun.listen<ByteQueue>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = new ByteQueue();
        },
        data: (socket, chunk) => {
          socket.data.push(Uint8Array.from(chunk));
          for (let words = takeCommand(socket.data); words; words = takeCommand(socket.data)) {
            this.commands.push(words);
            const reply = answer(words);
            if (reply === undefined) return void socket.terminate();
            socket.write(reply);
          }
        },
      },
    });
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#listener.port}`;
  }

  [Symbol.dispose](): void {
    this.#listener.stop(true);
  }
}

/** The reply to INFO with these fields, those of an empty Redis among them; and with its section of modules. */
export function infoReply(fields: Readonly<Record<string, string>>, modules = ""): string {
  const all = { redis_version: "7.0.15", role: "master", loading: "0", ...fields };
  const lines = Object.entries(all).map(([name, value]) => `${name}:${value}\r\n`);
  const text = `# Server\r\n${lines.join("")}${modules}`;
  return `$${text.length}\r\n${text}\r\n`;
}

/** The next whole command; each character of a word is a byte. */
function takeCommand(queue: ByteQueue): string[] | undefined {
  const bytes = queue.bytes;
  const line = (from: number) => {
    const end = bytes.indexOf("\r\n", from, "latin1");
    return end === -1 ? undefined : { value: Number(bytes.toString("latin1", from + 1, end)), end };
  };
  const head = line(0);
  if (head === undefined) return undefined;
  const words: string[] = [];
  let at = head.end + 2;
  for (let word = 0; word < head.value; word++) {
    const length = line(at);
    if (length === undefined) return undefined;
    const start = length.end + 2;
    if (start + length.value + 2 > bytes.length) return undefined;
    words.push(bytes.toString("latin1", start, start + length.value));
    at = start + length.value + 2;
  }
  queue.drop(at);
  return words;
}
