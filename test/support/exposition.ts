/** One line of a metric: its name with suffix, its labels, its value. */
export interface Sample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** A metric with its HELP and TYPE; undefined if the text has none. */
export interface Family {
  readonly name: string;
  help: string | undefined;
  type: string | undefined;
  readonly samples: Sample[];
}

const SUFFIXES: Readonly<Record<string, RegExp>> = {
  histogram: /_(?:bucket|sum|count)$/,
  summary: /_(?:sum|count)$/,
};
const TYPES = ["counter", "gauge", "histogram", "summary", "untyped"];
const VALUE = /^(?:NaN|[+-]?Inf|[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i;

/**
 * Parses Prometheus's text format, version 0.0.4, as strictly as Prometheus does. It also checks the
 * order that the format demands: HELP and TYPE before the samples of a metric, each metric in one piece.
 * @throws Error for the first invalid line.
 */
export function parseExposition(text: string): Family[] {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families = new Map<string, Family>();
  let current: Family | undefined;
  const enter = (name: string): Family => {
    if (current?.name === name) return current;
    if (families.has(name)) throw new Error(`${name} comes in two pieces`);
    current = { name, help: undefined, type: undefined, samples: [] };
    families.set(name, current);
    return current;
  };
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const about = /^# (HELP|TYPE) (\S+)(?: (.*))?$/.exec(line);
    if (about !== null) takeAbout(enter(about[2]!), about[1]!, about[3] ?? "");
    if (line.startsWith("#")) continue;
    const sample = parseSample(line);
    const suffix = SUFFIXES[current?.type ?? ""];
    const isOfCurrent = suffix !== undefined && sample.name.replace(suffix, "") === current?.name;
    (isOfCurrent ? current! : enter(sample.name)).samples.push(sample);
  }
  return [...families.values()];
}

function takeAbout(family: Family, what: string, text: string): void {
  const field = what === "HELP" ? "help" : "type";
  if (family[field] !== undefined) throw new Error(`a second ${what} of ${family.name}`);
  if (family.samples.length > 0) throw new Error(`${what} of ${family.name} after its samples`);
  if (what === "TYPE" && !TYPES.includes(text)) throw new Error(`${family.name}: no type ${text}`);
  family[field] = text;
}

function parseSample(line: string): Sample {
  const match = /^([a-z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$/i.exec(line);
  if (match === null || !VALUE.test(match[3]!)) throw new Error(`no sample: ${line}`);
  const labels = new Map<string, string>();
  let rest = match[2] ?? "";
  while (rest !== "") {
    const label = /^([a-z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/i.exec(rest);
    if (label === null) throw new Error(`no labels: ${line}`);
    if (labels.has(label[1]!)) throw new Error(`the label ${label[1]} twice: ${line}`);
    labels.set(label[1]!, label[2]!);
    rest = rest.slice(label[0].length);
  }
  return { name: match[1]!, labels, value: numberOf(match[3]!) };
}

function numberOf(text: string): number {
  return Number(text.replace(/inf$/i, "Infinity"));
}

const ABBREVIATIONS = "s ms us ns sec b kb mb gb tb pb m h d".split(" ");
const BASE_UNITS = "bytes celsius grams joules kelvin meters metres seconds volts amperes moles";
const OTHER_UNITS = "minutes hours days weeks fahrenheit inches yards miles bits calories pounds";
const PREFIXES =
  "pico nano micro milli centi deci deca hecto kilo kibi mega mebi giga gibi tera tebi peta pebi";

/** The complaints of `promtool check metrics` about a text, one line each. */
export function expositionComplaints(text: string): string[] {
  const families = parseExposition(text);
  return families.flatMap((family) => [
    ...nameComplaints(family),
    ...seriesComplaints(family),
    ...(family.type === "histogram" ? histogramComplaints(family) : []),
    ...(family.type === "counter" ? counterComplaints(family) : []),
  ]);
}

function nameComplaints({ name, help, type }: Family): string[] {
  const complaints: string[] = [];
  const words = name.toLowerCase().split("_");
  const prefixed = PREFIXES.split(" ").flatMap((prefix) =>
    BASE_UNITS.split(" ").map((unit) => prefix + unit),
  );
  const complain = (wrong: boolean, what: string) => {
    if (wrong) complaints.push(`${name} ${what}`);
  };
  complain(help === undefined || help.trim() === "", "has no help");
  complain(type === undefined || type === "untyped", "has no type");
  complain(/:/.test(name), "has a colon, which is for recording rules");
  complain(/[a-z][A-Z]/.test(name), "is written in camelCase");
  complain(type === "counter" && !name.endsWith("_total"), "is a counter without _total");
  complain(type !== "counter" && name.endsWith("_total"), "ends in _total and is no counter");
  complain(/_(?:bucket|sum|count)$/.test(name), "ends as the parts of a histogram do");
  complain(
    words.some((word) => TYPES.includes(word)),
    "has a type in its name",
  );
  complain(
    words.some((word) => ABBREVIATIONS.includes(word)),
    "has an abbreviated unit",
  );
  complain(
    words.some((word) => prefixed.includes(word) || OTHER_UNITS.split(" ").includes(word)),
    "is not in a base unit",
  );
  return complaints;
}

function seriesComplaints({ name, type, samples }: Family): string[] {
  const complaints: string[] = [];
  const seen = new Set<string>();
  for (const sample of samples) {
    const series = JSON.stringify([sample.name, [...sample.labels].toSorted()]);
    if (seen.has(series)) complaints.push(`${name} has the series ${series} twice`);
    seen.add(series);
    for (const label of sample.labels.keys()) {
      if (/^__|[A-Z]/.test(label)) complaints.push(`${name} has the label ${label}`);
      const reserved =
        (label === "le" && type !== "histogram") || (label === "quantile" && type !== "summary");
      if (reserved) complaints.push(`${name} is a ${type} with the label ${label}`);
    }
  }
  return complaints;
}

function counterComplaints({ name, samples }: Family): string[] {
  const bad = samples.filter(({ value }) => !(value >= 0 && value < Infinity));
  return bad.map(({ value }) => `${name} is a counter of ${value}`);
}

function histogramComplaints({ name, samples }: Family): string[] {
  const complaints: string[] = [];
  const groups = Map.groupBy(samples, ({ labels }) =>
    JSON.stringify([...labels].filter(([label]) => label !== "le").toSorted()),
  );
  for (const group of groups.values()) {
    const buckets = group.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => numberOf(labels.get("le") ?? "none"));
    const isRising = (values: readonly number[], strictly: boolean) =>
      values.every((value, index) => {
        const before = values[index - 1] ?? -Infinity;
        return strictly ? value > before : value >= before;
      });
    const count = group.find((sample) => sample.name === `${name}_count`)?.value;
    if (!isRising(bounds, true)) complaints.push(`${name} has buckets out of order`);
    const values = buckets.map(({ value }) => value);
    if (!isRising(values, false)) complaints.push(`${name} has buckets that don't add up`);
    if (bounds.at(-1) !== Infinity) complaints.push(`${name} has no bucket +Inf`);
    if (count === undefined || count !== values.at(-1))
      complaints.push(`${name}_count is not its last bucket`);
    if (!group.some((sample) => sample.name === `${name}_sum`))
      complaints.push(`${name} has no _sum`);
  }
  return complaints;
}
