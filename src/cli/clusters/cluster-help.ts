/** For `restore` alone. */
export const addressesOption = {
  name: "addresses",
  value: "HOST:PORT,…",
  help: "of a cluster, where the nodes of the restored one are to listen, in the order of the shards [127.0.0.1 from port 7000 on]",
};

/** What paragraphs of help say about a cluster's directory. */
export const aboutCluster =
  "SOURCE may also be the directory of a cluster, which holds one data directory for each shard.";
