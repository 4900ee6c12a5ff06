/** A parameter (or metric) against a metric, a dot a run; and which parameters matter for it. */

import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { axisOf, importance, type Axis, type Importance } from "./axes";
import { exact, plural } from "./format";
import { go, href, param, set } from "./route";
import { across as acrossOf, BOTTOM, dotNear, dotsOf, LEFT, markDot, paintDots, RIGHT, svgOf, ticksOf, TOP, up } from "./scatterdots";
import { mainMetric } from "./search";
import { hasAll, keysIn, type Sweep } from "./sweep";
import { SweepChart, type Size } from "./sweepchart";
import { useHeld } from "./ui";

const MOST_HEIGHT = 800;
const RANKED = 40;
const MOST_METRICS = 300;

interface Props {
  sweep: Sweep;
  /** All that there are; few of them have been read. */
  metrics: string[];
  loading: boolean;
}

export function Scatter({ sweep, metrics, loading }: Props): JSX.Element {
  const ids = useMemo(() => keysIn(sweep), [sweep]);
  const chosen = [param("sy") || `metrics.${mainMetric(ids.metrics)}`, param("sx")];
  const [metric, across] = useHeld(chosen, !loading || hasAll(sweep, chosen.filter(Boolean))) as [string, string];
  const y = useMemo(() => axisOf(metric, sweep), [metric, sweep]);
  const ranked = useMemo(() => ids.params.map((key) => importance(axisOf(`params.${key}`, sweep), y)).sort((a, b) => b.strength - a.strength), [ids, y]);
  const against = across || ranked[0]?.axis.id || metric;
  const x = useMemo(() => axisOf(against, sweep), [against, sweep]);
  const dots = useMemo(() => dotsOf(x, y, sweep.size), [x, y, sweep]);
  const [near, setNear] = useState(-1);
  const paint = useMemo(() => (pen: CanvasRenderingContext2D, size: Size) => paintDots(pen, size, x, y, dots), [x, y, dots]);
  const mark = useMemo(() => (near < 0 ? null : (pen: CanvasRenderingContext2D, size: Size) => markDot(pen, size, x, dots, near)), [x, dots, near]);
  const choices = (value: string, name: string, all: string[]): JSX.Element => (
    <select aria-label={name} value={value} onChange={(event) => set({ [name === "Across" ? "sx" : "sy"]: event.currentTarget.value })}>
      {[...new Set([value, ...all])].map((id) => <option key={id} value={id}>{id}</option>)}
    </select>
  );
  const all = metrics.slice(0, MOST_METRICS).map((key) => `metrics.${key}`);
  const run = near < 0 || near >= dots.runs.length ? -1 : dots.runs[near]!;
  return (
    <div class="pad two">
      <section aria-label="Scatter">
        <div class="toolbar">
          {choices(metric, "Up", all)} <span class="quiet">against</span> {choices(against, "Across", [...ids.params.map((key) => `params.${key}`), ...all])}
          <span class="quiet">{plural(dots.runs.length, "run")}</span>
        </div>
        <SweepChart
          name={`${y.title}-against-${x.title}`} label={`${y.title} against ${x.title}`} most={MOST_HEIGHT} paint={paint} mark={mark}
          svg={(size) => svgOf(size, x, y, dots)} axes={(size) => <Axes size={size} x={x} y={y} />}
          onMove={(left, top, size) => setNear(dotNear(x, dots, size, left, top))} onLeave={() => setNear(-1)}
          onPick={() => run >= 0 && go(href(`/runs/${sweep.id(run)}`))}
        />
        <p class="reading">{run >= 0 ? <><b>{sweep.name(run)}</b> {x.title} {x.categories ? x.categories[x.values[run]!] : exact(x.values[run]!)} · {y.title} {exact(y.values[run]!)}</> : " "}</p>
      </section>
      <Ranking ranked={ranked} y={y} runs={sweep.size} against={against} />
    </div>
  );
}

function Axes({ size, x, y }: { size: Size; x: Axis; y: Axis }): JSX.Element {
  const { width, height } = size;
  const [middle, side] = [(LEFT + width - RIGHT) / 2, (TOP + height - BOTTOM) / 2];
  const name = (axis: Axis): string => axis.title + (axis.log ? " (log)" : "");
  return (
    <g class="axis">
      <line x1={LEFT} y1={height - BOTTOM} x2={width - RIGHT} y2={height - BOTTOM} />
      {ticksOf(y, height - TOP - BOTTOM, 48).map(({ text, share }) => <text key={text} x={LEFT - 8} y={up(share, size) + 4} text-anchor="end">{text}</text>)}
      {ticksOf(x, width - LEFT - RIGHT, 80).map(({ text, share }) => <text key={text} x={acrossOf(share, size)} y={height - BOTTOM + 16} text-anchor="middle">{text.length > 14 ? `${text.slice(0, 13)}…` : text}</text>)}
      <text class="axis-name" x={middle} y={height - 10} text-anchor="middle">{name(x)}</text>
      <text class="axis-name metric" transform={`translate(14 ${side}) rotate(-90)`} text-anchor="middle">{name(y)}</text>
    </g>
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
  const size = Math.abs(value).toFixed(2);
  return Number(size) === 0 ? size : `${value < 0 ? "−" : "+"}${size}`;
}
