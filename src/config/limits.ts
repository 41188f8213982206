/**
 * Limits on what peers, clients and files may cost this process, and limits that several modules share;
 * each with its unit and its reason. The limits of one format or one algorithm stand where it is.
 */
export const limits = {
  // Redis reads handshake lines into a buffer of 1 KiB (replication.c).
  handshakeLineBytes: 64 * 1024,
  // A host name has at most 255 bytes; errors are lines too (Redis, sentinel.c).
  sentinelLineBytes: 1024,
  // Nodes of one view. Redis recommends at most 1000; a peer that names more is no cluster ("Redis cluster specification").
  clusterNodes: 2_000,
  // Shards that one process follows, each with a link, files and some MiB; no cluster that Redis recommends has more.
  clusterShards: 1_000,
  // Nodes that are remembered: all of the largest cluster, and what was replaced since. One that wasn't seen for so long
  // doesn't come back.
  clusterMembers: 10_000,
  clusterMemberMs: 30 * 24 * 60 * 60_000,
  // Slots that were seen open, as cluster.db remembers them: a reshard of everything opens each once or twice.
  clusterOpenSlots: 200_000,
  // Troubles that are remembered as told, so that each is told once: a few for each node of a large cluster.
  toldThings: 10_000,
  // CLUSTER SHARDS says some twenty words of each node, and two for each range of slots.
  clusterReplies: 200_000,
  // A look at a cluster asks this many nodes at a time. Each answers with a line for every node, and a thousand lines
  // take some milliseconds: of large clusters fewer are asked.
  clusterLookNodes: 24,
  clusterLookLines: 4_000,
  // A settings file has about thirty short lines; a larger file is the wrong one.
  configFileBytes: 1024 * 1024,
  // No ACL file line carries a longer password; a larger file is the wrong one.
  passwordFileBytes: 64 * 1024,
  // A bundle of all system CAs has about 200 KiB.
  tlsFileBytes: 8 * 1024 * 1024,
  // INFO of a large Redis has about 20 KiB; a peer that sends more is not a replica.
  statusReplyBytes: 1024 * 1024,
  // The answers to one question, all in all: what the nodes of a large cluster are asked brings about 2 MiB.
  answerBytes: 8 * 1024 * 1024,
  // `replica status` asks a process that answers within a millisecond.
  statusTimeoutMs: 5_000,
  // How much may wait in memory for the disk before reading from the link pauses: dozens of socket chunks.
  queuedBytes: 16 * 1024 * 1024,
  // The same for the log. It is smaller because a GETACK waits for everything queued before it.
  logQueuedBytes: 4 * 1024 * 1024,
  // Retry interval for a new snapshot that keeps failing: each attempt costs the primary a fork.
  snapshotRetryMs: 5 * 60 * 1000,
  // The same where the disk is about to be full: the ceiling is lowered this far. Also the pause between two that
  // downstreams asked for.
  snapshotHurryMs: 2_000,
  // Log size below which a --snapshot-ratio that was set does nothing: the pings of an idle, empty primary must
  // not trigger it. The one that nobody set spares the primary forks that are worth little: a server replays a
  // GiB within seconds.
  snapshotRatioBytes: 64 * 1024,
  defaultRatioBytes: 1024 ** 3,
  // The share of a small disk's room that is kept free where nobody set --min-free.
  defaultMinFreeShare: 1 / 8,
  // Minimum interval between snapshots by ratio: with little data, a busy primary fills such a log every second.
  snapshotRatioEveryMs: 60 * 1000,
  // The arguments of a logged command are counted, never buffered; anything larger is damage, not a command.
  frame: {
    // Redis's own limit (networking.c: INT_MAX).
    maxArgs: 2 ** 31 - 1,
    // proto-max-bulk-len defaults to 512 MiB and has no upper bound; no machine has memory for this much.
    maxArgBytes: 2 ** 40,
  },
  // A command of a log that is held in memory as a whole, once: what moved between shards is read so. A server takes
  // no more from a client (client-query-buffer-limit has 1 GiB by default).
  wholeCommandBytes: 2 ** 31,
  // The usual clients are a few tools, exporters and Sentinels; each costs a few KiB.
  clients: 1_000,
  // TLS handshakes of clients that are under way. Each takes a millisecond or two, and longer only where a client waits.
  handshakes: 100,
  // Descriptors that clients can't take, where the system allows few: the process has some twenty, each generation that
  // is read for downstreams costs one, and so do a new link and each connection for metrics.
  ownDescriptors: 100,
  // The line limit is Redis's (networking.c, PROTO_INLINE_MAX_SIZE); commands to this port have short arguments.
  command: {
    maxLineBytes: 64 * 1024,
    maxArgs: 1024,
    maxArgBytes: 64 * 1024,
    maxCommandBytes: 256 * 1024,
  },
  // Before login, a client needs only AUTH and HELLO (networking.c: "unauthenticated multibulk length").
  loginCommand: {
    maxLineBytes: 64 * 1024,
    maxArgs: 10,
    maxArgBytes: 64 * 1024,
    maxCommandBytes: 65 * 1024,
  },
  // A client's turn: as many bytes as Redis reads at once (PROTO_IOBUF_LEN). A socket buffer may hold ten
  // thousand commands, so answering them is limited in time as well.
  turnBytes: 16 * 1024,
  turnMs: 1,
  // Commands answered in one turn beyond its time, so that a pipeline is answered as a whole; never past the round.
  turnCommands: 16,
  // The turns of all clients in one round of the event loop: the primary's link waits no longer than this and one
  // command. As long as the loop takes to receive and write a few chunks.
  roundMs: 2,
  // What a client may send before it has logged in: one command of the largest size, and a second try.
  // Client libraries send a handful of commands first and are asked to log in.
  loginInputBytes: 128 * 1024,
  loginCommands: 100,
  // INFO has about 3 KiB: a client with this much unread has stopped reading. Also the largest single
  // reply, and the largest reply to a transaction.
  clientUnsentBytes: 1024 * 1024,
  // A Sentinel has one subscription, a person debugging a handful.
  clientSubscriptions: 1_000,
  channelNameBytes: 1024,
  // PUBLISH tries all patterns, each for the length of the channel's name and in steps of 32 bytes of the pattern:
  // some milliseconds at most. Of all clients together, so that many of them take no longer than a few.
  clientPatterns: 32,
  patterns: 256,
  patternBytes: 256,
  // Total size of the commands queued in a transaction.
  clientHeldBytes: 1024 * 1024,
  // Replies that were not sent, commands that were not answered and subscriptions, of all clients together. A
  // thousand clients at their own limits would hold gigabytes.
  clientsBytes: 64 * 1024 * 1024,
  // A client that knows the password sends it at once.
  loginSeconds: 10,
  // Commands are short: a client that leaves one unfinished is only holding a place.
  commandSeconds: 10,
  // Exporters ask every 15 s to 60 s; a link silent for longer is abandoned.
  clientIdleSeconds: 240,
  // What the status page draws: the last half hour every 5 s, a day every minute. Of `replica.db` a commit in five
  // minutes, so that a replica at rest writes next to nothing.
  sampleMs: 5_000,
  fineSamples: 360,
  minuteSamples: 1_440,
  keptSampleMinutes: 5,
  // What `/status.json` tells at once: with a generation an hour a month of them, and some screens of the rest.
  shownGenerations: 800,
  shownEvents: 100,
  shownDownstreams: 100,
  // Redis's default for tcp-keepalive: a subscriber may say nothing for days, or vanish without closing.
  clientKeepAliveMs: 300_000,
} as const;
