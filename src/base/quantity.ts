import ms from "ms";

const bytesPerUnit: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  tb: 1000 ** 4,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
};

/**
 * Parses a size such as `8MiB` (binary), `1GB` (decimal) or `4096` into bytes; undefined if it is not one.
 * `8M` is not one: Redis and the rest of the world disagree about what it means.
 */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim());
  const unit = bytesPerUnit[(match?.[2] ?? "?").toLowerCase()];
  if (match === null || unit === undefined) return undefined;
  const bytes = Number(match[1]) * unit;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/**
 * Parses a duration such as `500ms`, `60s`, `5m`, `1h` or `1d` into milliseconds; undefined if it is not one.
 * A bare number is in seconds, as in redis.conf.
 */
export function parseDurationMs(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)?$/i.exec(text.trim());
  if (match === null) return undefined;
  const milliseconds = ms(
    `${Number(match[1])}${(match[2] ?? "s").toLowerCase()}` as ms.StringValue,
  );
  return Number.isFinite(milliseconds) ? Math.round(milliseconds) : undefined;
}

/** Formats a size for people, in binary units: `512 B`, `8.0 MiB`, `1.5 TiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes / 1024;
  let unit = 0;
  // 1023.95 would round up to "1024.0".
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit] ?? ""}`;
}

/** Formats a count with its noun: `1 byte`, `2 bytes`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Formats the progress of a transfer: ` 25%  25.0 MiB of 100.0 MiB  12.5 MiB/s  0:06 left`. Where the total is unknown, bytes
 * and rate, and what is left by an estimate: `25.0 MiB of about 100.0 MiB  12.5 MiB/s  0:06 left (estimate)`.
 * @param expectedBytes an estimate of the total; undefined where there is none, and once more has come.
 */
export function formatProgress(
  bytes: number,
  totalBytes: number | undefined,
  bytesPerSecond: number,
  expectedBytes?: number,
): string {
  const rate = `${formatBytes(bytesPerSecond)}/s`;
  const total = totalBytes ?? expectedBytes;
  if (total === undefined) return `${formatBytes(bytes)}  ${rate}`;
  const left = bytesPerSecond === 0 ? "--:--" : formatClock((total - bytes) / bytesPerSecond);
  if (totalBytes === undefined)
    return `${formatBytes(bytes)} of about ${formatBytes(total)}  ${rate}  ${left} left (estimate)`;
  const share = total === 0 ? 1 : Math.min(1, bytes / total);
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  return `${percent}  ${formatBytes(bytes)} of ${formatBytes(total)}  ${rate}  ${left} left`;
}

/** Formats seconds as `1:05` or `2:03:04`, and days as `12 d`. */
export function formatClock(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 100) return `${Math.round(hours / 24)} d`;
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

/** Formats an age for people, in its two largest units: `12 s`, `5 min`, `3 h 12 min`, `4 d 2 h`. */
export function formatAge(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes === 0) return `${Math.floor(seconds)} s`;
  if (hours === 0) return `${minutes} min`;
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
