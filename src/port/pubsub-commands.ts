import { limits } from "../config/limits.ts";
import { error, integer } from "../resp/reply.ts";
import type { Call, Command } from "./call.ts";
import { LONG_CHANNEL } from "./clients/pubsub.ts";

export const pubsubCommands: readonly Command[] = [
  {
    name: "subscribe",
    arity: -2,
    flags: ["pubsub"],
    alone: true,
    whileSubscribed: true,
    summary: "Subscribes to channels.",
    run: subscribe("channels"),
  },
  {
    name: "psubscribe",
    arity: -2,
    flags: ["pubsub"],
    alone: true,
    whileSubscribed: true,
    summary: "Subscribes to channels whose names match patterns.",
    run: subscribe("patterns"),
  },
  {
    name: "unsubscribe",
    arity: -1,
    flags: ["pubsub"],
    alone: true,
    whileSubscribed: true,
    summary: "Unsubscribes from channels, or from all of them.",
    run: unsubscribe("channels"),
  },
  {
    name: "punsubscribe",
    arity: -1,
    flags: ["pubsub"],
    alone: true,
    whileSubscribed: true,
    summary: "Unsubscribes from patterns, or from all of them.",
    run: unsubscribe("patterns"),
  },
  {
    name: "publish",
    arity: 3,
    flags: ["pubsub", "fast"],
    changes: true,
    summary: "Sends a message to this port's subscribers. Returns how many received it.",
    run: publish,
  },
];

function publish({ context, args, bytes }: Call): Uint8Array {
  if (bytes[0]!.length > limits.channelNameBytes) return error(`ERR ${LONG_CHANNEL}`);
  return integer(context.pubsub.publish(args[0]!, bytes[1]!));
}

function subscribe(kind: "channels" | "patterns") {
  return ({ client, context, args }: Call) => {
    const refused = context.pubsub.subscribe(client, kind, args);
    return refused === undefined ? undefined : error(`ERR ${refused}`);
  };
}

function unsubscribe(kind: "channels" | "patterns") {
  return ({ client, context, args }: Call) => {
    context.pubsub.unsubscribe(client, kind, args);
    return undefined;
  };
}
