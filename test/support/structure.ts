import { type Reference, maskSource, resolveReference, scanReferences } from "./source-scan.ts";

/** Source files by their path from the project's root: "src/resp/encode.ts". */
export type SourceTree = ReadonlyMap<string, string>;

const ROOT = "src/main.ts";
/** What begins: the program, and what other programs import. */
const ROOTS = [ROOT, "src/index.ts"];
/** The one file that ends the process, and so knows what must be done before. */
const ENDING = "src/cli/process.ts";

interface Room {
  /** The rooms whose files it may import, besides its own. */
  readonly mayImport: readonly string[];
  /** Pure: no I/O, no clock, no randomness; what it needs comes in as an argument. */
  readonly pure?: true;
}

/** Rooms that most rooms above them import. */
const GROUND = ["base", "config"];
const STORE = ["store/disk", "store/ledger", "store/generation"];

/**
 * Every folder of src/ that holds files, from the bottom up, and what each may import. A room imports
 * only rooms that stand before it here, so no two can ever need each other. main.ts and index.ts may import all of them.
 */
export const ROOMS: Readonly<Record<string, Room>> = {
  base: { mayImport: [] },
  "config/schema": { mayImport: ["base"] },
  config: { mayImport: ["base", "config/schema"] },
  resp: { mayImport: ["base"], pure: true },
  rdb: { mayImport: ["base"], pure: true },
  "rdb/values": { mayImport: ["rdb"], pure: true },
  "rdb/content": { mayImport: ["base", "rdb", "rdb/values"], pure: true },
  "rdb/reader": { mayImport: ["base", "rdb", "rdb/values"], pure: true },
  "cluster/slots": { mayImport: [], pure: true },
  session: { mayImport: ["base", "resp"], pure: true },
  "inspect/keys": { mayImport: [], pure: true },
  "store/disk": { mayImport: ["base"] },
  "store/pieces": { mayImport: [...GROUND, "resp", "rdb", "store/disk"] },
  "store/recent": { mayImport: [] },
  "store/ledger": { mayImport: ["base", "rdb", "store/disk", "store/recent"] },
  "store/keep": { mayImport: ["base", "store/disk", "store/ledger"] },
  "store/generation": {
    mayImport: ["base", "rdb", "store/disk", "store/recent", "store/ledger", "store/keep"],
  },
  "store/rewrite": { mayImport: [...GROUND, "resp", "rdb", "cluster/slots", "store/disk"] },
  "store/restore": {
    mayImport: [...GROUND, "resp", "rdb", "rdb/reader", ...STORE, "store/pieces", "store/rewrite"],
  },
  "archive/store": { mayImport: ["base", "store/disk"] },
  "archive/format": { mayImport: ["base", "rdb", "store/disk", "archive/store"] },
  "archive/reader": {
    mayImport: [
      "base",
      "resp",
      "rdb",
      ...STORE,
      "store/restore",
      "archive/store",
      "archive/format",
    ],
  },
  "archive/writer": {
    mayImport: ["base", "rdb", ...STORE, "archive/store", "archive/format"],
  },
  "archive/retention": {
    mayImport: ["base", "archive/store", "archive/format", "archive/reader"],
  },
  "archive/open": {
    mayImport: [...GROUND, "archive/store", "archive/format", "archive/reader"],
  },
  "inspect/verify": { mayImport: ["base", "store/restore"] },
  "inspect/snapshots": {
    mayImport: ["rdb", "store/generation", "store/restore", "archive/reader"],
  },
  "inspect/log": {
    mayImport: [
      ...GROUND,
      "resp",
      ...STORE,
      "store/rewrite",
      "store/restore",
      "archive/format",
      "archive/reader",
    ],
  },
  "upstream/link": { mayImport: [...GROUND, "resp", "session"] },
  "upstream/room": { mayImport: [...GROUND, "resp", "session", "store/generation"] },
  "upstream/history": { mayImport: [...GROUND, "resp", "session", "store/generation"] },
  upstream: {
    mayImport: [
      ...GROUND,
      "config/schema",
      "resp",
      "rdb",
      "session",
      ...STORE,
      "upstream/link",
      "upstream/room",
      "upstream/history",
    ],
  },
  downstream: { mayImport: ["base", "resp", ...STORE, "store/restore"] },
  replica: {
    mayImport: [
      ...GROUND,
      "session",
      ...STORE,
      "store/recent",
      "store/keep",
      "archive/writer",
      "upstream/link",
      "upstream",
      "downstream",
    ],
  },
  "monitor/browser": { mayImport: [] },
  monitor: { mayImport: [...GROUND, "store/disk", "replica", "monitor/browser"] },
  "monitor/document": {
    mayImport: [...GROUND, "replica", "monitor/browser", "monitor"],
  },
  "cluster/status": { mayImport: ["cluster/slots", "replica"] },
  "cluster/monitor": {
    mayImport: [
      ...GROUND,
      "cluster/slots",
      "replica",
      "monitor/browser",
      "monitor",
      "monitor/document",
      "cluster/status",
    ],
  },
  "port/clients": {
    mayImport: [...GROUND, "resp", "store/disk", "downstream", "monitor"],
  },
  port: {
    mayImport: [
      ...GROUND,
      "resp",
      "store/disk",
      "downstream",
      "replica",
      "monitor",
      "cluster/status",
      "cluster/monitor",
      "port/clients",
    ],
  },
  "cluster/ledger": { mayImport: ["base", "store/disk", "store/ledger", "cluster/slots"] },
  "cluster/archive": {
    mayImport: [
      "base",
      "store/generation",
      "store/restore",
      "archive/store",
      "archive/format",
      "archive/reader",
      "archive/writer",
      "cluster/slots",
      "cluster/ledger",
    ],
  },
  "cluster/topology": { mayImport: [...GROUND, "resp", "upstream/link", "cluster/slots"] },
  "cluster/follow": {
    mayImport: [
      ...GROUND,
      "config/schema",
      "store/disk",
      "store/generation",
      "upstream/link",
      "upstream/room",
      "replica",
      "cluster/slots",
      "cluster/ledger",
      "cluster/topology",
    ],
  },
  "cluster/restore": {
    mayImport: [
      ...GROUND,
      "resp",
      "cluster/slots",
      "store/disk",
      "store/generation",
      "store/rewrite",
      "store/restore",
      "cluster/ledger",
    ],
  },
  stock: {
    mayImport: ["base", "resp", "cluster/slots", "store/disk", "store/generation", "store/restore"],
  },
  program: {
    mayImport: [
      ...GROUND,
      ...STORE,
      "store/restore",
      "archive/store",
      "archive/format",
      "archive/reader",
      "archive/writer",
      "archive/retention",
      "archive/open",
      "replica",
      "monitor",
      "monitor/document",
      "port",
    ],
  },
  "program/cluster": {
    mayImport: [
      ...GROUND,
      "store/disk",
      "store/generation",
      "store/restore",
      "archive/store",
      "archive/open",
      "replica",
      "port",
      "monitor",
      "cluster/slots",
      "cluster/ledger",
      "cluster/status",
      "cluster/monitor",
      "cluster/archive",
      "cluster/follow",
      "program",
    ],
  },
  "inspect/needs": { mayImport: ["base", "resp", "store/disk", "store/rewrite"] },
  "inspect/chosen": {
    mayImport: [
      "base",
      "resp",
      "rdb",
      "rdb/reader",
      "store/disk",
      "store/generation",
      "store/pieces",
      "store/rewrite",
      "store/restore",
      "stock",
      "inspect/needs",
    ],
  },
  "inspect/deliver": {
    mayImport: [
      ...GROUND,
      "resp",
      "rdb",
      "cluster/slots",
      "session",
      "upstream/link",
      "cluster/topology",
    ],
  },
  "inspect/compare": {
    mayImport: [
      "base",
      "rdb/content",
      "rdb/reader",
      "store/generation",
      "store/rewrite",
      "store/restore",
      "stock",
      "inspect/needs",
      "inspect/chosen",
    ],
  },
  demo: { mayImport: ["base", "resp", "rdb"] },
  "cli/terminal": { mayImport: GROUND },
  "cli/times": { mayImport: ["base"] },
  "cli/archives": {
    mayImport: ["base", "store/restore", "archive/reader", "inspect/snapshots", "cli/terminal"],
  },
  "cli/status": {
    mayImport: [...GROUND, "resp", "upstream/link", "monitor", "cli/terminal"],
  },
  "cli/clusters": {
    mayImport: [
      "base",
      "config",
      "archive/reader",
      "archive/open",
      "cluster/slots",
      "store/disk",
      "store/generation",
      "store/pieces",
      "store/restore",
      "cluster/ledger",
      "cluster/archive",
      "cluster/restore",
      "stock",
      "cli/terminal",
    ],
  },
  "cli/keys": {
    mayImport: [
      "base",
      "rdb",
      "rdb/reader",
      "inspect/keys",
      "store/disk",
      "store/generation",
      "store/restore",
      "archive/reader",
      "cluster/ledger",
      "cluster/archive",
      "cluster/restore",
      "cli/terminal",
    ],
  },
  "cli/compare": {
    mayImport: [
      "base",
      "archive/reader",
      "stock",
      "store/restore",
      "inspect/compare",
      "cli/terminal",
    ],
  },
  "cli/restores": {
    mayImport: ["base", "rdb", "store/restore", "stock", "inspect/chosen", "cli/terminal"],
  },
  "cli/log": { mayImport: ["base", "store/restore", "inspect/log"] },
  "cli/delivery": { mayImport: [...GROUND, "config/schema", "inspect/deliver", "cli/terminal"] },
  "cli/commands": {
    mayImport: [
      "config/schema",
      "inspect/needs",
      "inspect/chosen",
      "inspect/deliver",
      "cli/delivery",
      "inspect/compare",
      "cli/compare",
      "cli/restores",
      "inspect/log",
      "cli/log",
      "cli/status",
      "cli/keys",
      "inspect/keys",
      "cluster/ledger",
      "cluster/archive",
      "cluster/restore",
      "program/cluster",
      ...GROUND,
      "rdb",
      "session",
      "store/disk",
      "store/generation",
      "store/pieces",
      "store/restore",
      "archive/reader",
      "archive/open",
      "inspect/verify",
      "inspect/snapshots",
      "upstream",
      "replica",
      "stock",
      "program",
      "demo",
      "cli/terminal",
      "cli/times",
      "cli/archives",
      "cli/clusters",
    ],
  },
  "cli/completion": { mayImport: ["base", "config/schema", "cli/commands"] },
  "cli/manual": { mayImport: ["base", "config/schema", "cli/commands"] },
  cli: {
    mayImport: [
      ...GROUND,
      "config/schema",
      "cli/terminal",
      "cli/archives",
      "cli/clusters",
      "cli/keys",
      "cli/restores",
      "cli/delivery",
      "cli/log",
      "cli/commands",
      "cli/completion",
      "cli/manual",
    ],
  },
  "library/api": { mayImport: [], pure: true },
  library: {
    mayImport: [
      "library/api",
      ...GROUND,
      "config/schema",
      "rdb",
      "rdb/reader",
      "store/disk",
      "store/generation",
      "store/pieces",
      "store/restore",
      "archive/reader",
      "archive/open",
      "inspect/log",
      "inspect/verify",
      "inspect/snapshots",
      "cluster/ledger",
      "cluster/archive",
      "replica",
      "program",
    ],
  },
};

/** What is reported comes from one place; these rooms import nothing else of replica/. */
const STATUS = "src/replica/status.ts";
const READS_STATUS = ["monitor", "port"];

/** A room with more files holds two things. */
const MAX_FILES = 16;
/** So does a longer file, and a longer function, unless it stands in LONG with its reason. */
const MAX_FILE_LINES = 400;
const MAX_FUNCTION_LINES = 70;

/** What may be longer, and why: a file by its path, a function by path and name. */
const LONG: Readonly<Record<string, string>> = {};

/** What is complete and waits for the first who uses it: where it begins, and what it waits for. */
const AHEAD: Readonly<Record<string, string>> = {
  "src/store/restore/read-rdb.ts": "the commands that look into a snapshot",
};

interface Rule {
  readonly pattern: RegExp;
  readonly complaint: string;
  readonly appliesTo?: (path: string) => boolean;
}

const RULES: readonly Rule[] = [
  { pattern: /\bexport\s+default\b|\bas\s+default\b/, complaint: "has a default export" },
  { pattern: /(?<![\w.$#])any(?![\w$]|\s*[:(])/, complaint: "uses the type any" },
  { pattern: /\bEventEmitter\b/, complaint: "uses an EventEmitter" },
  {
    pattern: /\bprocess\s*\.\s*(?:exit|reallyExit|abort)\b/,
    complaint: `ends the process, which only ${ENDING} may`,
    appliesTo: (path) => path !== ENDING,
  },
  { pattern: /\bimport\s*\(\s*[^"'`\s]/, complaint: "imports a path that is computed" },
  {
    pattern: /(?<![\w.$#])(?:Bun|process|console|performance)\s*\./,
    complaint: "reaches outside of itself, and its room is pure",
    appliesTo: isPure,
  },
  {
    pattern: /(?<![\w.$#])(?:Date\.now|new Date\(\)|setTimeout|setInterval|fetch)(?![\w$])/,
    complaint: "looks at the clock or the network, and its room is pure",
    appliesTo: isPure,
  },
];

/** Every way in which the tree breaks the house's rules of structure, one line each. */
export function structureComplaints(tree: SourceTree): string[] {
  const complaints: string[] = [];
  const graph = new Map<string, Set<string>>();
  for (const [path, source] of tree) {
    const masked = maskSource(source);
    const references = scanReferences(source, masked);
    complaints.push(...nameComplaints(path), ...ruleComplaints(path, masked));
    complaints.push(...sizeComplaints(path, source, masked));
    if (isBarrel(masked)) complaints.push(`${path} only passes on what others export`);
    const targets = new Set<string>();
    graph.set(path, targets);
    for (const reference of references) {
      const target = targetOf(path, reference, tree);
      if (target === undefined) complaints.push(...packageComplaints(path, reference));
      else if (tree.has(target)) targets.add(target);
      else if (target.endsWith(".ts")) complaints.push(`${path} imports ${target}: no such file`);
    }
    for (const target of targets) complaints.push(...importComplaints(path, target));
  }
  return [
    ...complaints,
    ...folderComplaints(tree.keys()),
    ...cycleComplaints(graph),
    ...orphanComplaints(graph),
  ];
}

/** Every grant of ROOMS that no file of the tree uses, one line each. */
export function unusedGrants(tree: SourceTree): string[] {
  const used = new Set<string>();
  for (const [path, source] of tree) {
    for (const reference of scanReferences(source, maskSource(source))) {
      const target = targetOf(path, reference, tree);
      const [from, to] = [roomOf(path), target === undefined ? undefined : roomOf(target)];
      if (from !== to) used.add(`${from} → ${to}`);
    }
  }
  return Object.entries(ROOMS).flatMap(([room, { mayImport }]) =>
    mayImport.map((other) => `${room} → ${other}`).filter((grant) => !used.has(grant)),
  );
}

function targetOf(path: string, reference: Reference, tree: SourceTree): string | undefined {
  const target = resolveReference(path, reference.specifier);
  // A compiled program finds a worker by its path from the project's root.
  const fromRoot = reference.specifier.replace(/^\.\//, "");
  if (reference.how === "worker" && tree.has(fromRoot)) return fromRoot;
  return target;
}

/** "src/store/disk/disk.ts" is in "store/disk"; main.ts and index.ts are a room of their own. */
function roomOf(path: string): string {
  if (ROOTS.includes(path)) return "main";
  return path.split("/").slice(1, -1).join("/");
}

function isPure(path: string): boolean {
  return ROOMS[roomOf(path)]?.pure === true;
}

function nameComplaints(path: string): string[] {
  const complaints: string[] = [];
  if (!ROOTS.includes(path) && ROOMS[roomOf(path)] === undefined)
    complaints.push(`${path} is in no room`);
  if (/(?:^|[/._-])utils?(?=$|[/._-])/i.test(path))
    complaints.push(`${path} is named after nothing`);
  return complaints;
}

function ruleComplaints(path: string, masked: string): string[] {
  const complaints: string[] = [];
  for (const { pattern, complaint, appliesTo } of RULES) {
    if (appliesTo !== undefined && !appliesTo(path)) continue;
    const match = pattern.exec(masked);
    if (match === null) continue;
    const line = masked.slice(0, match.index).split("\n").length;
    complaints.push(`${path}:${line} ${complaint}`);
  }
  return complaints;
}

function packageComplaints(path: string, { specifier }: Reference): string[] {
  const name = specifier.replace(/^node:/, "");
  if (name === "events") return [`${path} imports ${specifier}: no EventEmitter`];
  const outside = /^(fs|net|tls|dgram|child_process|worker_threads|os|process|timers|bun\b)/;
  if (isPure(path) && outside.test(name)) {
    return [`${path} imports ${specifier}, and its room is pure`];
  }
  return [];
}

function importComplaints(path: string, target: string): string[] {
  const [from, to] = [roomOf(path), roomOf(target)];
  if (READS_STATUS.includes(from) && to === "replica" && target !== STATUS) {
    return [`${path} imports ${target}: ${from} knows the replica by ${STATUS} alone`];
  }
  const room = ROOMS[from];
  if (from === to || ROOTS.includes(path) || room === undefined || room.mayImport.includes(to))
    return [];
  return [`${path} imports ${target}: ${from} may not import ${to}`];
}

function sizeComplaints(path: string, source: string, masked: string): string[] {
  const complaints: string[] = [];
  const lines = source.split("\n").length - 1;
  if (lines > MAX_FILE_LINES && !(path in LONG)) {
    complaints.push(`${path} has ${lines} lines, more than ${MAX_FILE_LINES}`);
  }
  for (const { name, lines: length } of longBlocks(masked, MAX_FUNCTION_LINES)) {
    if (`${path} ${name}` in LONG) continue;
    complaints.push(`${path} ${name} has ${length} lines, more than ${MAX_FUNCTION_LINES}`);
  }
  return complaints;
}

/**
 * The functions of a masked source that have more lines than `most`. A block is taken for a function's
 * where a parameter list, a return type or an arrow stands before it; so a long `if` counts too, but
 * that stands in a long function anyway.
 */
function longBlocks(masked: string, most: number): { name: string; lines: number }[] {
  const found: { name: string; lines: number }[] = [];
  const open: { at: number; head: string }[] = [];
  for (const { index: at, 0: brace } of masked.matchAll(/[{}]/g)) {
    if (brace === "{") {
      open.push({ at, head: masked.slice(Math.max(0, at - 300), at) });
      continue;
    }
    const block = open.pop();
    if (block === undefined || !/(?:=>|\)(?:\s*:[^;={}()]*)?|[\w>\]]\s*\}|>)\s*$/.test(block.head))
      continue;
    const lines = masked.slice(block.at, at).split("\n").length;
    if (lines > most) found.push({ name: nameIn(block.head), lines });
  }
  return found;
}

/** The name that stands nearest before a function's body. */
function nameIn(head: string): string {
  const names =
    /(?:function\*?\s+|(?:const|let)\s+|^\s*(?:(?:private|static|async|get|set|override)\s+)*)(#?[\w$]+)\s*(?=[(<=])/gm;
  return [...head.matchAll(names)].at(-1)?.[1] ?? "(unnamed)";
}

function folderComplaints(paths: Iterable<string>): string[] {
  const files = Map.groupBy(paths, roomOf);
  return [...files]
    .filter(([, those]) => those.length > MAX_FILES)
    .map(([room, those]) => `src/${room} has ${those.length} files, more than ${MAX_FILES}`);
}

function isBarrel(masked: string): boolean {
  const statement = /\b(import|export)\b(?:\s+type)?\s*(?:\*|\{|["'])[^;]*;?/g;
  const left = masked.replaceAll(statement, (text) =>
    /^(?:import|export(?:\s+type)?\s*(?:\*|\{))/.test(text) ? "" : text,
  );
  return /\bexport\b/.test(masked) && left.trim() === "";
}

function cycleComplaints(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const complaints: string[] = [];
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      complaints.push(`a cycle: ${[...trail.slice(start), path].join(" → ")}`);
      return;
    }
    if (done.has(path)) return;
    trail.push(path);
    for (const target of graph.get(path) ?? []) visit(target);
    trail.pop();
    done.add(path);
  };
  for (const path of graph.keys()) visit(path);
  return complaints;
}

function orphanComplaints(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const used = reachedFrom(ROOTS, graph);
  const reached = reachedFrom([...ROOTS, ...Object.keys(AHEAD)], graph);
  return [
    ...[...graph.keys()]
      .filter((path) => !reached.has(path))
      .map((path) => `nothing that starts at ${ROOT} imports ${path}`),
    ...Object.keys(AHEAD)
      .filter((path) => used.has(path))
      .map((path) => `${path} is used now: it is ahead of nobody`),
  ];
}

function reachedFrom(
  roots: readonly string[],
  graph: ReadonlyMap<string, ReadonlySet<string>>,
): Set<string> {
  const reached = new Set(roots);
  for (const path of reached) for (const target of graph.get(path) ?? []) reached.add(target);
  return reached;
}
