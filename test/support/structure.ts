import { type Reference, maskSource, resolveReference, scanReferences } from "./source-scan.ts";

/** Source files by their path from the project's root: "src/resp/encode.ts". */
export type SourceTree = ReadonlyMap<string, string>;

const ROOT = "src/main.ts";

/** The layers from the bottom up; those of one row never meet. */
const LAYERS: readonly (readonly string[])[] = [
  ["base"],
  ["resp", "rdb"],
  ["session", "store"],
  ["service"],
  ["demo"],
  ["cli"],
  ["main"],
];

/** Layers that do no I/O and know no time: what they need comes in as an argument. */
const PURE_LAYERS = ["resp", "rdb", "session"];

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
    complaint: `ends the process, which only ${ROOT} may`,
    appliesTo: (path) => path !== ROOT,
  },
  { pattern: /\bimport\s*\(\s*[^"'`\s]/, complaint: "imports a path that is computed" },
  {
    pattern: /(?<![\w.$#])(?:Bun|process|console|performance)\s*\./,
    complaint: "reaches outside of itself, and its layer is pure",
    appliesTo: isPure,
  },
  {
    pattern: /(?<![\w.$#])(?:Date\.now|new Date\(\)|setTimeout|setInterval|fetch)(?![\w$])/,
    complaint: "looks at the clock or the network, and its layer is pure",
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
    if (isBarrel(masked)) complaints.push(`${path} only passes on what others export`);
    const targets = new Set<string>();
    graph.set(path, targets);
    for (const reference of references) {
      const target = targetOf(path, reference, tree);
      if (target === undefined) complaints.push(...packageComplaints(path, reference));
      else if (tree.has(target)) targets.add(target);
      else if (target.endsWith(".ts")) complaints.push(`${path} imports ${target}: no such file`);
    }
    for (const target of targets) complaints.push(...layerComplaints(path, target));
  }
  return [...complaints, ...cycleComplaints(graph), ...orphanComplaints(graph)];
}

function targetOf(path: string, reference: Reference, tree: SourceTree): string | undefined {
  const target = resolveReference(path, reference.specifier);
  // A compiled program finds a worker by its path from the project's root.
  const fromRoot = reference.specifier.replace(/^\.\//, "");
  if (reference.how === "worker" && tree.has(fromRoot)) return fromRoot;
  return target;
}

/** "src/store/log.ts" is in "store"; files right in src/ are "base", apart from the root. */
function layerOf(path: string): string {
  if (path === ROOT) return "main";
  const [, folder, file] = path.split("/");
  return file === undefined ? "base" : (folder ?? "");
}

function rankOf(layer: string): number {
  return LAYERS.findIndex((row) => row.includes(layer));
}

function isPure(path: string): boolean {
  return PURE_LAYERS.includes(layerOf(path));
}

function nameComplaints(path: string): string[] {
  const complaints: string[] = [];
  if (rankOf(layerOf(path)) < 0) complaints.push(`${path} is in no layer`);
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
    return [`${path} imports ${specifier}, and its layer is pure`];
  }
  return [];
}

function layerComplaints(path: string, target: string): string[] {
  const [from, to] = [layerOf(path), layerOf(target)];
  if (from === to || rankOf(to) < rankOf(from)) return [];
  const way = rankOf(to) === rankOf(from) ? "sideways" : "up";
  return [`${path} imports ${target}: from ${from} ${way} to ${to}`];
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
  const reached = new Set([ROOT]);
  for (const path of reached) for (const target of graph.get(path) ?? []) reached.add(target);
  return [...graph.keys()]
    .filter((path) => !reached.has(path))
    .map((path) => `nothing that starts at ${ROOT} imports ${path}`);
}
