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
