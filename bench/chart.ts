import { formatBytes } from "../src/base/quantity.ts";
import type { TransferResult } from "./transfer.ts";

const COLOURS = { replica: "#d94c3d", peer: "#7a8794", floor: "#c3cad1" } as const;
const ROW_PX = 24;
const LABEL_PX = 400;
const BAR_PX = 400;
const TOP_PX = 52;

/** The medians as a bar chart (SVG), the fastest on top. */
export function transferChart({ bytes, rounds, rows }: TransferResult): string {
  const sorted = rows.toSorted((a, b) => a.seconds - b.seconds);
  const longest = Math.max(...sorted.map((row) => row.seconds));
  const height = TOP_PX + sorted.length * ROW_PX + 16;
  const width = LABEL_PX + BAR_PX + 150;
  const bars = sorted.map((row, n) => {
    const y = TOP_PX + n * ROW_PX;
    const bar = Math.max(1, (row.seconds / longest) * BAR_PX);
    const weight = row.kind === "replica" ? ' font-weight="600"' : "";
    const figures = `${row.seconds.toFixed(2)} s, ${row.megabytesPerSecond.toFixed(0)} MB/s`;
    return `  <text x="${LABEL_PX - 10}" y="${y + 14}" text-anchor="end"${weight}>${escape(row.name)}</text>
  <rect x="${LABEL_PX}" y="${y}" width="${bar.toFixed(1)}" height="${ROW_PX - 7}" rx="2" fill="${COLOURS[row.kind]}"/>
  <text x="${(LABEL_PX + bar + 8).toFixed(1)}" y="${y + 14}" fill="#555">${figures}</text>`;
  });
  const title = `A snapshot of ${formatBytes(bytes)} over loopback, seconds until durable (median of ${rounds} rounds)`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#222">
  <rect width="${width}" height="${height}" fill="#fff"/>
  <text x="16" y="24" font-size="15" font-weight="600">${escape(title)}</text>
  <text x="16" y="41" fill="#555">red: replica, verified and synced; dark: its peers; light: lower bounds</text>
${bars.join("\n")}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
