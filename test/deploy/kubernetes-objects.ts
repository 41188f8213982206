import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { StatefulSet } from "kubernetes-models/apps/v1";
import { CronJob } from "kubernetes-models/batch/v1";
import { NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1";
import { Secret, Service, ServiceAccount } from "kubernetes-models/v1";

/** What a part of an object may hold: text, numbers, lists and more parts. */
export type Value = string | number | boolean | null | readonly Value[] | Part;
export interface Part {
  readonly [name: string]: Value;
}

const MODELS = [
  CronJob,
  NetworkPolicy,
  PodDisruptionBudget,
  Secret,
  Service,
  ServiceAccount,
  ServiceMonitor,
  StatefulSet,
];

/** The objects of a manifest. @throws Error for what is not YAML. */
export function objectsOf(manifest: string): Part[] {
  const documents = Bun.YAML.parse(manifest) as Part | null | (Part | null)[];
  return [documents].flat().filter((one) => one !== null);
}

/**
 * What Kubernetes would say of an object: by its own schemas, and strictly, as `kubectl` does, so that a field that it
 * doesn't know is a mistake too.
 * @returns nothing for an object that is right.
 */
export function objectComplaints(object: Part): string[] {
  const model = MODELS.find(
    ({ apiVersion, kind }) => apiVersion === object["apiVersion"] && kind === object["kind"],
  );
  if (model === undefined) return [`${object["apiVersion"]} ${object["kind"]} is unknown here`];
  const read = new Map<object, Set<string>>();
  try {
    model.prototype.validate.call(watched(object, read));
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
  return unread(object, "", read);
}

/** The value, but what is read of it is noted: a schema reads each field that it knows. */
function watched<T extends object>(value: T, read: Map<object, Set<string>>): T {
  const names = read.get(value) ?? new Set<string>();
  read.set(value, names);
  return new Proxy(value, {
    get(target, name): unknown {
      if (typeof name === "string") names.add(name);
      const found: unknown = Reflect.get(target, name);
      return typeof found === "object" && found !== null ? watched(found, read) : found;
    },
  });
}

function unread(value: Value, path: string, read: Map<object, Set<string>>): string[] {
  if (typeof value !== "object" || value === null) return [];
  const names = read.get(value);
  return Object.entries(value).flatMap(([name, inner]) => {
    const at = path === "" ? name : `${path}.${name}`;
    return names?.has(name) === true ? unread(inner, at, read) : [`${at} is unknown`];
  });
}
