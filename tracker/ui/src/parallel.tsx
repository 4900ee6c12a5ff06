/** Parallel coordinates: one line a run, one axis a parameter or metric; a drag along an axis keeps a range. */

import type { EChartsCoreOption, EChartsType } from "echarts/core";
import type { JSX } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { axisIds, axisOf, type Axis } from "./axes";
import { compareHref } from "./bulk";
import { ramp } from "./colors";
import { plural, rounded, tick } from "./format";
import { go, href, list, set } from "./route";
import { mainMetric } from "./search";
import { FAMILY, inkOf, SweepChart } from "./sweepchart";
import { Menu } from "./ui";
import type { Run } from "./wire";

/** Of the chart: what the window leaves, as far as lines are still told apart. */
const HEIGHT = Math.min(900, Math.max(420, innerHeight - 300));
const MOST_AXES = 8;

/** `keep=<axis>~<low>~<high>`, in values of the axis; of a category, its place in order. */
type Kept = Map<string, [number, number]>;

export function Parallel({ runs }: { runs: Run[] }): JSX.Element {
  const ids = useMemo(() => axisIds(runs), [runs]);
  const wanted = list("axis");
  const main = mainMetric(ids.metrics);
  const chosen = wanted.length ? wanted : [...ids.params.slice(0, MOST_AXES - 1).map((key) => `params.${key}`), ...(main ? [`metrics.${main}`] : [])];
  const axes = useMemo(() => chosen.map((id) => axisOf(id, runs)), [runs, chosen.join("\n")]);
  const whole = useMemo(() => runs.flatMap((_, i) => (axes.every((axis) => Number.isFinite(axis.values[i])) ? [i] : [])), [runs, axes]);
  const keptText = list("keep").join("\n");
  const kept = useMemo(() => keptOf(keptText), [keptText]);
  const inside = useMemo(() => whole.filter((i) => isInside(axes, i, kept)), [whole, kept]);
  const [near, setNear] = useState(-1);
  const option = useMemo(() => optionOf(axes, whole), [axes, whole]);
  const listening = useRef<EChartsType | null>(null);
  const state = useRef({ axes, kept });
  state.current = { axes, kept };
  const onReady = (chart: EChartsType): void => {
    for (const [id, range] of kept) {
      const place = axes.findIndex((axis) => axis.id === id);
      if (place >= 0) chart.dispatchAction({ type: "axisAreaSelect", parallelAxisId: String(place), intervals: [range] }, { silent: true });
    }
    if (listening.current === chart) return;
    listening.current = chart;
    chart.on("axisareaselected", (event) => {
      const { parallelAxisId, intervals } = event as { parallelAxisId: string; intervals: [number, number][] };
      const axis = state.current.axes[Number(parallelAxisId)];
      if (axis) keep(state.current.kept, axis.id, intervals[0] ?? null);
    });
  };
  const letGo = (): void => {
    axes.forEach((_, place) => listening.current?.dispatchAction({ type: "axisAreaSelect", parallelAxisId: String(place), intervals: [] }, { silent: true }));
    set({ keep: null });
  };
  const run = runs[near];
  const missing = runs.length - whole.length;
  return (
    <div class="pad">
      <div class="toolbar">
        <AxesMenu ids={ids} chosen={chosen} />
        <span class="quiet">{plural(inside.length, "run")} of {runs.length.toLocaleString("en-US")}. Drag along an axis to keep a range, click the range to let go.</span>
        {missing > 0 && <span class="quiet" title="A line needs a number or a text on every axis">{missing.toLocaleString("en-US")} lack a value.</span>}
        {axes.length > 0 && <Ramp axis={axes[axes.length - 1]!} />}
        {kept.size > 0 && <button type="button" onClick={letGo}>Keep all</button>}
        {kept.size > 0 && inside.length > 0 && <button type="button" onClick={() => go(compareHref(inside.slice(0, 200).map((i) => runs[i]!.run_id)))}>Chart these</button>}
      </div>
      {axes.length > 0 ? (
        <SweepChart
          name="parallel-coordinates" label={`Parallel coordinates of ${plural(runs.length, "run")}`} height={HEIGHT} option={option} onReady={onReady}
          onPoint={(place) => setNear(place < 0 ? -1 : whole[place]!)} onPick={(place) => go(href(`/runs/${runs[whole[place]!]!.run_id}`))}
        />
      ) : <p class="quiet">No parameter differs between these runs.</p>}
      <p class="reading">{run ? <><b>{run.name}</b> {axes.map((axis) => `${axis.title} ${valueText(axis, near)}`).join(" · ")}</> : " "}</p>
    </div>
  );
}

/** What the colours say. */
function Ramp({ axis }: { axis: Axis }): JSX.Element {
  const end = (value: number): string => (axis.categories ? (axis.categories[value] ?? "") : rounded(value));
  return (
    <span class="ramp quiet">
      {axis.title} {end(axis.range[0])}
      <svg width="96" height="8" aria-hidden="true">{shades(axis).map((color, i) => <rect key={i} x={i * 4} width="4" height="8" fill={color} />)}</svg>
      {end(axis.range[1])}
    </span>
  );
}

function AxesMenu({ ids, chosen }: { ids: { params: string[]; metrics: string[] }; chosen: string[] }): JSX.Element {
  const all = [...new Set([...chosen, ...ids.params.map((key) => `params.${key}`), ...ids.metrics.map((key) => `metrics.${key}`)])];
  const toggle = (id: string): void => set({ axis: chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id] }, { quietly: true });
  return (
    <Menu label={`Axes (${chosen.length})`}>
      <div class="choices">{all.slice(0, 200).map((id) => <label key={id}><input type="checkbox" checked={chosen.includes(id)} onChange={() => toggle(id)} /> {id}</label>)}</div>
    </Menu>
  );
}

function keptOf(text: string): Kept {
  return new Map(text.split("\n").filter(Boolean).flatMap((part) => {
    const [low, high] = part.split("~").slice(-2).map(Number);
    const id = part.split("~").slice(0, -2).join("~");
    return Number.isFinite(low) && Number.isFinite(high) ? [[id, [low, high] as [number, number]] as const] : [];
  }));
}

function keep(kept: Kept, id: string, range: [number, number] | null): void {
  const next = new Map(kept);
  if (range) next.set(id, [Math.min(...range), Math.max(...range)]);
  else next.delete(id);
  set({ keep: [...next].map(([axis, [low, high]]) => `${axis}~${Number(low.toPrecision(6))}~${Number(high.toPrecision(6))}`) }, { quietly: true });
}

function isInside(axes: Axis[], run: number, kept: Kept): boolean {
  return axes.every((axis) => {
    const range = kept.get(axis.id);
    const value = axis.values[run]!;
    return !range || (value >= range[0] && value <= range[1]);
  });
}

function valueText(axis: Axis, run: number): string {
  const value = axis.values[run]!;
  return axis.categories ? axis.categories[value]! : rounded(value);
}

const SHADES = 24;

/** Colours from an axis's lower end to its upper; even along the axis, so by powers where that is logarithmic. */
function shades(axis: Axis): string[] {
  const [low, high] = axis.range;
  return Array.from({ length: SHADES }, (_, i) => ramp(axis.share(low + ((high - low) * i) / (SHADES - 1))));
}

function optionOf(axes: Axis[], whole: number[]): EChartsCoreOption {
  const { text, quiet, accent, ground } = inkOf();
  const last = axes[axes.length - 1];
  const opacity = Math.max(0.12, Math.min(0.85, 150 / Math.max(1, whole.length)));
  return {
    animation: false,
    textStyle: { fontFamily: FAMILY },
    parallel: { left: 70, right: 90, top: 40, bottom: 24 },
    parallelAxis: axes.map((axis, dim) => ({
      id: String(dim), dim, name: axis.title + (axis.log ? " (log)" : ""), realtime: false,
      ...(axis.categories ? { type: "category", data: axis.categories } : { type: axis.log ? "log" : "value", scale: true }),
      nameTextStyle: { color: axis.isMetric ? accent : text, fontSize: 12, overflow: "truncate", width: 150 },
      axisLine: { lineStyle: { color: quiet } }, axisTick: { show: false },
      axisLabel: {
        color: text, fontSize: 11, textBorderColor: ground, textBorderWidth: 3, overflow: "truncate", width: 120,
        ...(axis.categories ? {} : { formatter: (value: number) => tick(value) }),
        ...(axis.few ? { customValues: axis.few } : {}),
      },
      areaSelectStyle: { width: 14, color: accent, opacity: 0.25, borderColor: accent, borderWidth: 1 },
    })),
    series: [{
      type: "parallel", progressive: 0, inactiveOpacity: 0.02, activeOpacity: opacity, lineStyle: { width: 1, opacity },
      emphasis: { lineStyle: { width: 3, opacity: 1 } },
      data: whole.map((i) => axes.map((axis) => axis.values[i]!)),
    }],
    // The colour is told by the last axis, in its own order: of ten thousand runs an object each takes half a second.
    ...(last ? { visualMap: [{ type: "continuous", show: false, dimension: axes.length - 1, min: last.range[0], max: last.range[1], inRange: { color: shades(last) } }] } : {}),
  };
}
