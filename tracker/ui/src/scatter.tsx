/** A parameter (or metric) against a metric, a point a run; and which parameters matter for it. */

import type { EChartsCoreOption } from "echarts/core";
import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { axisIds, axisOf, importance, type Axis, type Importance } from "./axes";
import { exact, plural, tick } from "./format";
import { go, href, param, set } from "./route";
import { mainMetric } from "./search";
import { FAMILY, inkOf, SweepChart } from "./sweepchart";
import type { Run } from "./wire";

const HEIGHT = Math.min(800, Math.max(420, innerHeight - 300));
const RANKED = 40;
/** Pixels over which the runs of a category are strewn, so that each is seen. */
const JITTER = 60;

export function Scatter({ runs }: { runs: Run[] }): JSX.Element {
  const ids = useMemo(() => axisIds(runs), [runs]);
  const metric = param("sy") || `metrics.${mainMetric(ids.metrics)}`;
  const y = useMemo(() => axisOf(metric, runs), [metric, runs]);
  const ranked = useMemo(() => ids.params.map((key) => importance(axisOf(`params.${key}`, runs), y)).sort((a, b) => b.strength - a.strength), [ids, y]);
  const against = param("sx") || ranked[0]?.axis.id || metric;
  const x = useMemo(() => axisOf(against, runs), [against, runs]);
  const whole = useMemo(() => runs.flatMap((_, i) => (Number.isFinite(x.values[i]) && Number.isFinite(y.values[i]) ? [i] : [])), [x, y]);
  const option = useMemo(() => optionOf(x, y, whole), [x, y, whole]);
  const [near, setNear] = useState(-1);
  const choices = (value: string, name: string, all: string[]): JSX.Element => (
    <select aria-label={name} value={value} onChange={(event) => set({ [name === "Across" ? "sx" : "sy"]: event.currentTarget.value })}>
      {[...new Set([value, ...all])].map((id) => <option key={id} value={id}>{id}</option>)}
    </select>
  );
  const metrics = ids.metrics.slice(0, 300).map((key) => `metrics.${key}`);
  const run = runs[near];
  return (
    <div class="pad two">
      <section aria-label="Scatter">
        <div class="toolbar">
          {choices(metric, "Up", metrics)} <span class="quiet">against</span> {choices(against, "Across", [...ids.params.map((key) => `params.${key}`), ...metrics])}
          <span class="quiet">{plural(whole.length, "run")}</span>
        </div>
        <SweepChart
          name={`${y.title}-against-${x.title}`} label={`${y.title} against ${x.title}`} height={HEIGHT} option={option}
          onPoint={(place) => setNear(place < 0 ? -1 : whole[place]!)} onPick={(place) => go(href(`/runs/${runs[whole[place]!]!.run_id}`))}
        />
        <p class="reading">{run ? <><b>{run.name}</b> {x.title} {x.categories ? x.categories[x.values[near]!] : exact(x.values[near]!)} · {y.title} {exact(y.values[near]!)}</> : " "}</p>
      </section>
      <Ranking ranked={ranked} y={y} runs={runs.length} against={against} />
    </div>
  );
}

function Ranking({ ranked, y, runs, against }: { ranked: Importance[]; y: Axis; runs: number; against: string }): JSX.Element {
  return (
    <section aria-label="Importance">
      <h2>What {y.title} depends on</h2>
      <p class="quiet">Over {plural(runs, "run")}: how much of its order each parameter tells alone (correlation ratio of ranks, numbers in eighths; what chance would tell is taken off), and the rank correlation. Association, not cause, and no interactions.</p>
      <table class="bars">
        <thead><tr><th scope="col">parameter</th><th scope="col">strength</th><th scope="col" class="number">correlation</th></tr></thead>
        <tbody>
          {ranked.slice(0, RANKED).map(({ axis, strength, correlation, runs: used }) => (
            <tr key={axis.id} title={plural(used, "run")} aria-current={axis.id === against ? "true" : undefined}>
              <th scope="row"><button type="button" class="link" onClick={() => set({ sx: axis.id })}>{axis.title}</button></th>
              <td><meter min={0} max={1} value={strength} aria-label={`strength of ${axis.title}`} /> {strength.toFixed(2)}</td>
              <td class="number" title={exact(correlation)}>{correlation === null ? "—" : signed(correlation)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {!ranked.length && <p class="quiet">No parameter differs between these runs.</p>}
    </section>
  );
}

function signed(value: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

function optionOf(x: Axis, y: Axis, whole: number[]): EChartsCoreOption {
  const { text, quiet, grid, accent } = inkOf();
  const axis = (of: Axis, across: boolean): object => ({
    ...(of.categories ? { type: "category", data: of.categories, ...(across ? { jitter: JITTER, jitterOverlap: true } : {}) } : { type: of.log ? "log" : "value", scale: true }),
    name: of.title + (of.log ? " (log)" : ""), nameLocation: "middle", nameGap: across ? 28 : 52,
    nameTextStyle: { color: text, fontSize: 12 },
    axisLine: { show: across, onZero: false, lineStyle: { color: quiet } }, axisTick: { show: false },
    splitLine: { show: true, lineStyle: { color: grid } },
    axisLabel: { color: quiet, fontSize: 11, hideOverlap: true, ...(of.categories ? {} : { formatter: (value: number) => tick(value) }) },
  });
  return {
    animation: false,
    textStyle: { fontFamily: FAMILY },
    grid: { left: 76, right: 40, top: 14, bottom: 48 },
    xAxis: axis(x, true), yAxis: axis(y, false),
    series: [{
      type: "scatter", symbolSize: 7, progressive: 0,
      itemStyle: { color: accent, opacity: Math.max(0.25, Math.min(0.85, 200 / Math.max(1, whole.length))) },
      emphasis: { scale: 2, itemStyle: { opacity: 1 } },
      data: whole.map((i) => [x.values[i]!, y.values[i]!]),
    }],
  };
}
