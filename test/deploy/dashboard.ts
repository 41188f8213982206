import { join } from "node:path";

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly datasource?: unknown;
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly { refId: string; expr: string; datasource: unknown }[];
}

interface Dashboard {
  readonly schemaVersion: number;
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
  readonly annotations: { readonly list: readonly { readonly expr?: string }[] };
  readonly templating: { readonly list: readonly { name: string; type: string }[] };
}

const path = join(import.meta.dir, "../../deploy/grafana-dashboard.json");
export const dashboardText = await Bun.file(path).text();
export const dashboard = JSON.parse(dashboardText) as Dashboard;
export const panels = dashboard.panels.filter((panel) => panel.type !== "row");

/** What its panels and marks ask Prometheus for. */
export const dashboardQueries: readonly string[] = [
  ...panels.flatMap((panel) => panel.targets ?? []),
  ...dashboard.annotations.list,
].flatMap(({ expr }) => expr ?? []);

/** The query as Grafana sends it, with all that the variables offer chosen. */
export function filledIn(query: string): string {
  return query
    .replaceAll("$__rate_interval", "1m")
    .replaceAll(/"\$(?:job|instance|shard)"/g, '".*"');
}
