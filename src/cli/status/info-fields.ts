import { formatAge, formatBytes } from "../../base/quantity.ts";
import type { Info } from "./info-connection.ts";

/** Formats INFO's fields for people. A missing or malformed field is shown as "?". */
export class Fields {
  readonly #info: Info;

  constructor(info: Info) {
    this.#info = info;
  }

  text(name: string): string {
    return this.#info.get(name) ?? "?";
  }

  number(name: string): number | undefined {
    const value = this.#info.get(name) ?? "";
    return /^-?\d{1,16}(?:\.\d{1,6})?$/.test(value) ? Number(value) : undefined;
  }

  count(name: string): string {
    return this.number(name)?.toLocaleString("en") ?? "?";
  }

  /** A count with a noun: "1 break", "2 breaks". */
  counted(name: string, noun: string): string {
    const value = this.number(name);
    // -1 is Redis's word for unknown.
    const count = value === undefined || value < 0 ? "?" : this.count(name);
    return `${count} ${noun}${value === 1 ? "" : "s"}`;
  }

  bytes(name: string): string {
    const value = this.number(name);
    return value === undefined || value < 0 ? "?" : formatBytes(value);
  }

  age(name: string): string {
    const value = this.number(name);
    return value === undefined ? "?" : formatAge(Math.max(0, value));
  }

  /** A time in unix seconds, and its age by the replica's clock. */
  moment(name: string): string {
    const seconds = this.number(name);
    const nowSeconds = (this.number("server_time_usec") ?? 0) / 1e6;
    // The last second of the year 9999.
    if (seconds === undefined || seconds < 0 || seconds > 253_402_300_799) return "?";
    const date = new Date(seconds * 1000).toISOString().replace("T", " ").replace(".000Z", " UTC");
    return `${date} (${formatAge(Math.max(0, nowSeconds - seconds))} ago)`;
  }
}
