/** How charts are drawn, as the address says: x, logx, log, smooth, zoom, group. */

import { computed, signal } from "@preact/signals";
import type { Range } from "./extent";
import { list, param, query, set } from "./route";

/** The run under the pointer: it stands out in every chart of the page. */
export const highlighted = signal<string | null>(null);

export interface ChartSettings {
  x: string;
  /** The metric that is the x axis, "" for steps and times. */
  along: string;
  logX: boolean;
  /** Half-life of the mean, in percent of the axis. */
  smoothing: number;
  zoom: Range | null;
  grouped: boolean;
  logY: (metric: string) => boolean;
}

const AXES = ["step", "time", "relative"];
const NAMES = ["x", "logx", "log", "logy", "smooth", "zoom", "group"];

const text = computed(() => NAMES.map((name) => query.value.getAll(name).join("\n")).join("\0"));

export const settings = computed<ChartSettings>(() => {
  void text.value;
  const x = query.peek().get("x") ?? "step";
  const zoom = (query.peek().get("zoom") ?? "").split(",").map(Number);
  const all = query.peek().get("log") === "1";
  const others = new Set(query.peek().getAll("logy"));
  const smoothing = Number(query.peek().get("smooth") ?? 0);
  return {
    x,
    along: AXES.includes(x) ? "" : x,
    logX: query.peek().get("logx") === "1" && x !== "time",
    smoothing: smoothing > 0 && smoothing <= 50 ? smoothing : 0,
    zoom: zoom.length === 2 && zoom.every(Number.isFinite) ? (zoom as Range) : null,
    grouped: Boolean(query.peek().get("group")),
    logY: (metric) => all !== others.has(metric),
  };
});

export function setZoom(range: Range | null): void {
  set({ zoom: range ? range.map((n) => Number(n.toPrecision(10))).join(",") : null });
}

export function setLogY(metric: string, log: boolean): void {
  const others = list("logy").filter((name) => name !== metric);
  set({ logy: log !== (param("log") === "1") ? [...others, metric] : others });
}
