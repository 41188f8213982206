import type { Setting } from "./setting.ts";
import {
  bytes,
  durationMs,
  httpUrl,
  oneOf,
  orOff,
  path,
  recipients,
  text,
  toggle,
} from "./setting-values.ts";

const secondMs = 1000;
const dayMs = 24 * 60 * 60 * secondMs;
const duration = { kind: "number", value: "TIME" } as const;

/** The settings of the archive; rows of `settingsSchema`. */
export const archiveSchema = {
  archive: {
    group: "archive",
    kind: "text",
    value: "URL",
    takes: "s3://bucket/prefix, file:///path, or off",
    help: "carry every generation to this archive while it grows: s3://bucket/prefix, or file:///path",
    unset: "off",
    // Its form is checked where it is opened, by who knows what not to show of it.
    schema: orOff(text(4096)),
  },
  "archive-every": {
    group: "archive",
    ...duration,
    takes: "a duration from 100ms to 1d, such as 10s; a bare number is in seconds",
    help: "the longest time that a durable byte waits before it is sent to the archive; 8 MiB are sent at once",
    default: "10s",
    schema: durationMs(100, dayMs),
  },
  "archive-keep-for": {
    group: "archive",
    ...duration,
    takes: "a duration from 1s to 36600d, such as 30d, or off; a bare number is in seconds",
    help: "how long a moment can be restored from the archive; off: for ever",
    default: "7d",
    schema: orOff(durationMs(secondMs, 36_600 * dayMs)),
  },
  "archive-endpoint": {
    group: "archive",
    kind: "text",
    value: "URL",
    takes: "the URL of a server, such as https://host:port, without a login",
    help: "the server of an s3:// archive, such as https://host:port",
    unset: "AWS_ENDPOINT_URL, else Amazon's",
    schema: httpUrl(),
  },
  "archive-region": {
    group: "archive",
    kind: "text",
    value: "NAME",
    takes: "the name of a region, such as eu-central-1",
    help: "the region of an s3:// archive's bucket",
    unset: "AWS_REGION, or what the server tells",
    schema: text(64),
  },
  "archive-recipient": {
    group: "archive",
    kind: "list",
    value: "KEY",
    takes: "the public key of an age recipient, age1…, or several with commas",
    help: "encrypt the archive to this age recipient (age1…); may be given more than once",
    unset: "not encrypted",
    schema: recipients(),
  },
  "archive-identity": {
    group: "archive",
    kind: "text",
    value: "FILE",
    takes: "the path of a file",
    completes: "file",
    help: "the file of the age identity that reads an encrypted archive",
    unset: "none",
    schema: path(),
  },
  "archive-compression": {
    group: "archive",
    kind: "text",
    value: "HOW",
    takes: "zstd or none",
    help: "compress what is archived: zstd or none",
    default: "zstd",
    schema: oneOf("zstd", "none"),
  },
  "archive-rate": {
    group: "archive",
    kind: "number",
    value: "SIZE",
    takes: "a size from 64KiB to 1TiB, such as 10MiB, or off",
    help: "how many bytes a second to send to the archive at most",
    unset: "off",
    schema: orOff(bytes(64 * 1024, 1024 ** 4)),
  },
  "no-archive-bootstrap": {
    group: "archive",
    kind: "switch",
    value: "",
    takes: "true, 1, yes, false, 0 or no",
    help: "don't fill an empty data directory from the archive",
    default: "false",
    schema: toggle(),
  },
  "ready-archive-lag": {
    group: "archive",
    ...duration,
    takes: "a duration from 1s to 30d, such as 5m, or off; a bare number is in seconds",
    help: "how long a durable byte may be missing in the archive before the replica counts as not ready",
    unset: "off",
    schema: orOff(durationMs(secondMs, 30 * dayMs)),
  },
} satisfies Record<string, Setting>;
