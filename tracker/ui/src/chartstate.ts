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
  /** Its upper end is Infinity where it goes on to the newest point. */
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
  const all = query.peek().get("log") === "1";
  const others = new Set(query.peek().getAll("logy"));
  const smoothing = Number(query.peek().get("smooth") ?? 0);
  return {
    x,
    along: AXES.includes(x) ? "" : x,
    logX: query.peek().get("logx") === "1" && x !== "time",
    smoothing: smoothing > 0 && smoothing <= 50 ? smoothing : 0,
    zoom: zoomIn(query.peek().get("zoom") ?? ""),
    grouped: Boolean(query.peek().get("group")),
    logY: (metric) => all !== others.has(metric),
  };
});

/** `900,1200`, or `900,` for everything from 900 on. */
function zoomIn(text: string): Range | null {
  const [, low, high] = /^([^,]+),([^,]*)$/.exec(text) ?? [];
  const range: Range = [Number(low), high === "" ? Infinity : Number(high)];
  return Number.isFinite(range[0]) && range[0] < range[1] ? range : null;
}

export function setZoom(range: Range | null): void {
  set({ zoom: range && zoomText(range, (at) => String(Number(at.toPrecision(10)))) });
}

export function zoomText(range: Range, text: (at: number) => string): string {
  return range.map((at) => (Number.isFinite(at) ? text(at) : "")).join(",");
}

export function setLogY(metric: string, log: boolean): void {
  const others = list("logy").filter((name) => name !== metric);
  set({ logy: log !== (param("log") === "1") ? [...others, metric] : others });
}
