/** A systemd unit's directives by section, in order; systemd.syntax(7). */
export type UnitFile = ReadonlyMap<string, readonly (readonly [name: string, value: string])[]>;

/**
 * Parses a unit file.
 * @throws Error for a line that is not a section, a directive, a comment or empty.
 */
export function parseUnit(text: string): UnitFile {
  const unit = new Map<string, [string, string][]>();
  let section: [string, string][] | undefined;
  for (const line of text.replaceAll(/\\\n/g, " ").split("\n")) {
    const title = /^\[(\w+)\]$/.exec(line)?.[1];
    if (title !== undefined) {
      if (unit.has(title)) throw new Error(`two sections [${title}]`);
      unit.set(title, (section = []));
      continue;
    }
    if (line === "" || /^[#;]/.test(line)) continue;
    const directive = /^([A-Z]\w*)=(.*)$/.exec(line);
    if (directive === null || section === undefined) throw new Error(`no directive: ${line}`);
    section.push([directive[1]!, directive[2]!]);
  }
  return unit;
}

/** All values of a directive; an empty one resets the list. */
export function valuesOf(unit: UnitFile, section: string, name: string): string[] {
  let values: string[] = [];
  for (const [directive, value] of unit.get(section) ?? []) {
    if (directive !== name) continue;
    values = value === "" ? [] : [...values, value];
  }
  return values;
}

/**
 * Returns the words of the command that the unit starts, as systemd makes them.
 * @param specifiers what `%S` and the like stand for, by their letter.
 * @param env the variables of the unit and of its environment file.
 * @throws Error for a specifier or a variable that isn't given.
 */
export function startedBy(
  unit: UnitFile,
  specifiers: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>>,
): string[] {
  const [line = "", ...others] = valuesOf(unit, "Service", "ExecStart");
  if (others.length > 0) throw new Error("it starts several commands");
  return withSpecifiers(line, specifiers)
    .replaceAll(/\$\{(\w+)\}/g, (_all, name: string) => {
      const value = env[name];
      if (value === undefined) throw new Error(`no variable ${name}`);
      return value;
    })
    .split(" ");
}

/** @throws Error for a specifier that isn't given. */
export function withSpecifiers(text: string, specifiers: Readonly<Record<string, string>>): string {
  return text.replaceAll(/%(.)/g, (_all, letter: string) => {
    const value = specifiers[letter];
    if (value === undefined) throw new Error(`no specifier %${letter}`);
    return value;
  });
}

/** The variables that the unit sets. */
export function environmentOf(unit: UnitFile): Record<string, string> {
  return variablesIn(valuesOf(unit, "Service", "Environment").join("\n"));
}

/** The variables of lines NAME=VALUE, as in an environment file: systemd.exec(5). */
export function variablesIn(text: string): Record<string, string> {
  const entries = text
    .split("\n")
    .filter((line) => /^\w+=/.test(line))
    .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const);
  return Object.fromEntries(entries);
}
