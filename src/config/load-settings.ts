import { statSync } from "node:fs";
import * as z from "zod/mini";
import type { ArchiveSettings, Settings } from "./settings.ts";
import { isIP } from "../base/address.ts";
import { usageError } from "../base/errors.ts";
import { didYouMean } from "../base/nearest.ts";
import { limits } from "./limits.ts";
import { fixedPassword, type Password, passwordInFile } from "./password.ts";
import { readSmallFile, readSmallText } from "./read-file.ts";
import { type ServedBy, ServedTls } from "./served-tls.ts";
import { aboutSetting, isSetting, settingNames, variableOf } from "./schema/about-settings.ts";
import { settingsSchema, type SettingName, type SettingValues } from "./schema/settings-schema.ts";

/** Where settings come from, besides their defaults. */
export interface SettingSources {
  /** Flags as given, without the dashes; may include `config`. */
  readonly flags?: ReadonlyMap<string, string>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The settings that the command takes; files of other settings are not read. Default: all. */
  readonly takes?: readonly SettingName[];
  /** What a flag is called in errors. Default: `the flag --NAME`. */
  readonly called?: (name: string) => string;
}

/** A value as text, and its source, for errors. */
interface Given {
  readonly text: string;
  readonly source: string;
}

/**
 * Resolves the settings from flag, environment, `--config` file and default, in that order. An empty
 * variable counts as unset.
 * @throws ReplicaError USAGE for an unknown name, a bad value, an unreadable file, or settings that
 * don't fit together. The message names the setting and its source, and never contains a password.
 */
export function loadSettings(sources: SettingSources): Settings {
  const env = sources.env ?? {};
  const takes = new Set<string>(sources.takes ?? settingNames);
  const flags = fromFlags(sources.flags ?? new Map(), sources.called);
  const variables = fromEnvironment(env);
  const configFile = flags.get("config")?.text ?? variables.get("config")?.text;
  const given = new Map([
    ...(configFile === undefined ? [] : fromFile(configFile)),
    ...variables,
    ...flags,
  ]);
  given.delete("config");
  const values = parseValues(given);
  refuseMisfits(takes, values, given);

  const passwordIn = (name: PasswordFile) =>
    takes.has(name) ? passwordOf(values[name], given.get(name), name) : undefined;
  return {
    dir: values.dir,
    adopt: values.adopt,
    port: values.port,
    bind: values.bind,
    announceIp: values["announce-ip"],
    announcePort: values["announce-port"],
    announce: values.announce === "yes",
    username: values.username,
    password: passwordIn("password-file") ?? passwordInVariable(env["REPLICA_PASSWORD"]),
    sentinel: {
      username: values["sentinel-username"],
      password: passwordIn("sentinel-password-file"),
    },
    requirepass: passwordIn("requirepass-file"),
    unprotected: values.unprotected,
    tls: tlsOf(values),
    portTls: takes.has("port-tls-cert") ? servedTlsOf("port", values, given) : undefined,
    http: values.http,
    httpTls: takes.has("http-tls-cert") ? servedTlsOf("http", values, given) : undefined,
    httpHosts: values["http-host"] ?? [],
    readyLagMs: values["ready-lag"],
    cluster: clusterOf(values),
    io: values.io,
    rdbSyncBytes: values["rdb-sync-bytes"],
    rdbFor: values["rdb-for"],
    fsync: values.fsync,
    ack: values.ack,
    snapshotEveryMs: values["snapshot-every"],
    snapshotRatio: values["snapshot-ratio"],
    snapshotRatioFromBytes: given.has("snapshot-ratio")
      ? limits.snapshotRatioBytes
      : limits.defaultRatioBytes,
    keep: values.keep,
    keepForMs: values["keep-for"],
    minFreeBytes: values["min-free"],
    minFreeShare: given.has("min-free") ? 1 : limits.defaultMinFreeShare,
    archive: archiveOf(values),
    readyArchiveLagMs: values["ready-archive-lag"],
    timeoutMs: values.timeout,
    syncTimeoutMs: values["sync-timeout"],
    syncLinks: values["sync-links"] === "2" ? 2 : 1,
    askPrimary: values["ask-primary"] === "yes",
    psyncCommand: values["psync-command"],
    syncCommand: values["sync-command"],
    retryMaxMs: values["retry-max"],
    logLevel: values["log-level"],
    logFormat: values["log-format"],
    progress: !values["no-progress"],
  };
}

/** Settings that don't fit together, or name files that are of no use. */
function refuseMisfits(
  takes: ReadonlySet<string>,
  values: SettingValues,
  given: ReadonlyMap<string, Given>,
): void {
  if (takes.has("unprotected")) refuseOpenPort(values);
  if (takes.has("port") && takes.has("http")) refuseOwnPort(values, given);
  if (takes.has("tls-cert")) checkTls(values, given);
  if (takes.has("archive")) refuseWithoutArchive(values, given);
}

function tlsOf(values: SettingValues): Settings["tls"] {
  return {
    caFile: values["tls-ca"],
    certFile: values["tls-cert"],
    keyFile: values["tls-key"],
    serverName: values["tls-server-name"],
    insecure: values["tls-insecure"],
  };
}

function clusterOf(values: SettingValues): Settings["cluster"] {
  return {
    readFrom: values["cluster-read-from"],
    snapshots: values["cluster-snapshots"],
    shards: values.shards,
    relayPorts: values["relay-ports"],
  };
}

function archiveOf(values: SettingValues): ArchiveSettings {
  return {
    url: values.archive,
    endpoint: values["archive-endpoint"],
    region: values["archive-region"],
    everyMs: values["archive-every"],
    keepForMs: values["archive-keep-for"],
    recipients: values["archive-recipient"] ?? [],
    identityFile: values["archive-identity"],
    compression: values["archive-compression"],
    bytesPerSecond: values["archive-rate"],
    fillsEmpty: !values["no-archive-bootstrap"],
  };
}

function fromFlags(
  flags: ReadonlyMap<string, string>,
  called = (name: string) => `the flag --${name}`,
): Map<string, Given> {
  const given = new Map<string, Given>();
  for (const [name, value] of flags) {
    if (!isSetting(name) && name !== "config") {
      throw usageError(
        `unknown flag --${name}${didYouMean(name, [...settingNames, "config"], "--")}`,
      );
    }
    given.set(name, { text: value, source: called(name) });
  }
  return given;
}

function fromEnvironment(env: Readonly<Record<string, string | undefined>>): Map<string, Given> {
  const names = new Map([...settingNames, "config"].map((name) => [variableOf(name), name]));
  const given = new Map<string, Given>();
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith("REPLICA_") || variable === "REPLICA_PASSWORD" || value === undefined)
      continue;
    const name = names.get(variable);
    if (name === undefined || (name === "port" && value.startsWith("tcp://"))) {
      // Kubernetes sets REPLICA_PORT=tcp://… and REPLICA_SERVICE_HOST in every container of a namespace
      // that has a service called "replica".
      if (/^REPLICA_(?:PORT(?:_\d+_.*)?|SERVICE_.*)$/.test(variable)) {
        throw usageError(
          `the variable ${variable} is not a setting: Kubernetes sets it for a service called "replica"; ` +
            "set enableServiceLinks: false in the pod, or rename the service",
        );
      }
      throw usageError(`unknown variable ${variable}${didYouMean(variable, [...names.keys()])}`);
    }
    if (value !== "") given.set(name, { text: value, source: `the variable ${variable}` });
  }
  return given;
}

function fromFile(configFile: string): Map<string, Given> {
  const text = readSmallText(configFile, limits.configFileBytes, "the settings file");
  let table: object;
  try {
    table = Bun.TOML.parse(text);
  } catch (cause) {
    // The parser's message quotes the input, which may be a password that was not put in quotes.
    const reason =
      cause instanceof Error ? cause.message.replace(/: ".*"$/s, "") : "it can't be parsed";
    throw usageError(`the settings file ${configFile} is not valid TOML: ${reason}`);
  }
  const given = new Map<string, Given>();
  for (const [name, value] of Object.entries(table) as [string, unknown][]) {
    if (!isSetting(name)) {
      throw usageError(`unknown setting ${name} in ${configFile}${didYouMean(name, settingNames)}`);
    }
    const { kind, takes } = aboutSetting(name);
    const isList = kind === "list" && isTexts(value);
    const fits =
      isList ||
      typeof value === "string" ||
      ((kind === "number" || kind === "switch") && typeof value === "number") ||
      (kind === "switch" && typeof value === "boolean");
    if (!fits) throw usageError(`${name} in ${configFile} takes ${takes}, as a string`);
    given.set(name, { text: String(value), source: `${name} in ${configFile}` });
  }
  return given;
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function parseValues(given: ReadonlyMap<string, Given>): SettingValues {
  const values: Partial<Record<SettingName, unknown>> = {};
  for (const name of settingNames) {
    const { default: preset, takes } = aboutSetting(name);
    const text = given.get(name)?.text ?? preset;
    if (text === undefined) continue;
    const parsed = z.safeParse(settingsSchema[name].schema, text);
    if (!parsed.success) {
      const { source } = given.get(name) ?? { source: `the default of --${name}` };
      throw usageError(`${source} is ${JSON.stringify(text.slice(0, 100))}: it takes ${takes}`);
    }
    values[name] = parsed.data;
  }
  // Each row's schema gives the type that the row's name has there.
  return values as SettingValues;
}

/** Whether only this machine can reach the address. A name other than localhost may be anything. */
export function isLoopback(address: string): boolean {
  const lower = address.toLowerCase();
  if (lower === "localhost" || lower === "::1") return true;
  const inner = lower.startsWith("::ffff:") ? lower.slice("::ffff:".length) : lower;
  return isIP(inner) === 4 && inner.startsWith("127.");
}

function refuseOpenPort(values: SettingValues): void {
  if (isLoopback(values.bind) || values["requirepass-file"] !== undefined || values.unprotected)
    return;
  throw usageError(
    `binding ${values.bind} would let anyone who can reach it read every key: give --requirepass-file FILE, ` +
      "or --unprotected if the network is trusted, or leave --bind at 127.0.0.1",
  );
}

/** Settings that mean nothing without an archive: who sets them thinks that there is one, unless it is off by name. */
const OF_THE_ARCHIVE = [
  "archive-recipient",
  "archive-every",
  "archive-keep-for",
  "archive-rate",
  "archive-compression",
  "ready-archive-lag",
] as const;

function refuseWithoutArchive(
  { archive, ack }: SettingValues,
  given: ReadonlyMap<string, Given>,
): void {
  if (archive !== undefined) return;
  // A file may spell out the defaults.
  const isMeant = (name: (typeof OF_THE_ARCHIVE)[number]) =>
    ![undefined, "off", aboutSetting(name).default].includes(given.get(name)?.text);
  const only = given.has("archive") ? undefined : OF_THE_ARCHIVE.find(isMeant);
  const needy =
    ack === "archived"
      ? `${given.get("ack")?.source ?? "--ack"} is archived, which`
      : only && given.get(only)?.source;
  if (needy !== undefined) throw usageError(`${needy} needs --archive URL as well`);
}

/** A taken --http port may become free, and is tried again and again; the replica's own never does. */
function refuseOwnPort(
  { http, port, bind }: SettingValues,
  given: ReadonlyMap<string, Given>,
): void {
  if (http === undefined || port === 0 || http.port !== port || !overlap(http.host, bind)) return;
  throw usageError(
    `${given.get("http")?.source ?? "--http"} names port ${port}, which is the replica's own (--port): give another one`,
  );
}

/** Whether two addresses can't both be listened to on one port. Of names it is known only of localhost. */
function overlap(one: string, other: string): boolean {
  const both = [one, other].map((host) => host.toLowerCase().replace(/^localhost$/, "127.0.0.1"));
  if (both[0] === both[1] || both.includes("::")) return true;
  return both.includes("0.0.0.0") && both.every((host) => !host.includes(":"));
}

/** A certificate is nothing without its key. */
function refuseHalfPair(
  prefix: "tls" | `${ServedBy}-tls`,
  values: SettingValues,
  given: ReadonlyMap<string, Given>,
): void {
  const [cert, key] = [`${prefix}-cert`, `${prefix}-key`] as const;
  if ((values[cert] === undefined) === (values[key] === undefined)) return;
  const [has, lacks] = values[cert] === undefined ? [key, cert] : [cert, key];
  throw usageError(`${given.get(has)?.source ?? `--${has}`} needs --${lacks} FILE as well`);
}

/** The certificate of a port of this program; it is read when that port is opened. */
function servedTlsOf(
  by: ServedBy,
  values: SettingValues,
  given: ReadonlyMap<string, Given>,
): ServedTls | undefined {
  refuseHalfPair(`${by}-tls`, values, given);
  const [cert, key, ca] = ([`${by}-tls-cert`, `${by}-tls-key`, `${by}-tls-ca`] as const).map(
    (name) => values[name],
  );
  if (cert !== undefined && key !== undefined) return new ServedTls(by, { cert, key, ca });
  if (ca === undefined) return undefined;
  throw usageError(
    `${given.get(`${by}-tls-ca`)?.source ?? `--${by}-tls-ca`} needs --${by}-tls-cert FILE as well: without TLS no client shows a certificate`,
  );
}

function checkTls(values: SettingValues, given: ReadonlyMap<string, Given>): void {
  refuseHalfPair("tls", values, given);
  for (const name of ["tls-ca", "tls-cert", "tls-key"] as const) {
    const tlsFile = values[name];
    if (tlsFile === undefined) continue;
    // Loaded here because it brings Node's streams with it, which take time at each start.
    const { createPrivateKey, X509Certificate } = process.getBuiltinModule("node:crypto");
    const source = given.get(name)?.source ?? name;
    // The file is read again at every connect, so a pipe won't do.
    if (statSync(tlsFile, { throwIfNoEntry: false })?.isFile() === false) {
      throw usageError(
        `${source}: ${tlsFile} is not a regular file; it is read again at every connect`,
      );
    }
    // Comments between certificates may be in any encoding.
    const text = readSmallFile(tlsFile, limits.tlsFileBytes, source).toString("latin1");
    try {
      if (name === "tls-key") createPrivateKey(text);
      else void new X509Certificate(text).subject;
    } catch (cause) {
      const what = name === "tls-key" ? "unencrypted private key" : "certificate";
      throw usageError(`${source}: ${tlsFile} contains no ${what} in PEM format`, cause);
    }
  }
}

type PasswordFile = "password-file" | "sentinel-password-file" | "requirepass-file";

function passwordOf(
  file: string | undefined,
  given: Given | undefined,
  name: PasswordFile,
): Password | undefined {
  if (file === undefined || given === undefined) return undefined;
  return passwordInFile(file, `--${name}`, given.source);
}

function passwordInVariable(value = ""): Password | undefined {
  return value === "" ? undefined : fixedPassword("REPLICA_PASSWORD", value);
}
