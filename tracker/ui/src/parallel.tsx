/** Parallel coordinates: one line a run, one axis a parameter or metric; a drag along an axis keeps a range. */

import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { axisOf, type Axis } from "./axes";
import { compareHref } from "./bulk";
import { plural, rounded } from "./format";
import { inside, keep, keptOf, lineNear, paintLines, shades, svgOf, whole, within } from "./parallellines";
import { AxisMarks } from "./parallelaxis";
import { go, href, list, set } from "./route";
import { mainMetric } from "./search";
import { hasAll, keysIn, type Sweep } from "./sweep";
import { SweepChart, type Size } from "./sweepchart";
import { Menu, useHeld } from "./ui";

/** Pixels: higher, and the eye no longer follows a line. */
const MOST_HEIGHT = 900;
const MOST_AXES = 8;
const MOST_CHARTED = 200;

interface Props {
  sweep: Sweep;
  /** All that there are; few of them have been read. */
  metrics: string[];
  loading: boolean;
}

export function Parallel({ sweep, metrics, loading }: Props): JSX.Element {
  const ids = useMemo(() => keysIn(sweep), [sweep]);
  const wanted = list("axis");
  const main = mainMetric(ids.metrics);
  const chosen = wanted.length ? wanted : [...ids.params.slice(0, MOST_AXES - 1).map((key) => `params.${key}`), ...(main ? [`metrics.${main}`] : [])];
  const held = useHeld(chosen, !loading || hasAll(sweep, chosen));
  const axes = useMemo(() => held.map((id) => axisOf(id, sweep)), [sweep, held.join("\n")]);
  const drawn = useMemo(() => whole(axes, sweep.size), [sweep, axes]);
  const keptText = list("keep").join("\n");
  const kept = useMemo(() => keptOf(keptText), [keptText]);
  const kin = useMemo(() => inside(axes, drawn, kept), [axes, drawn, kept]);
  const [near, setNear] = useState(-1);
  const paint = useMemo(() => (pen: CanvasRenderingContext2D, size: Size) => paintLines(pen, size, axes, drawn, kin), [axes, drawn, kin]);
  const mark = useMemo(() => (near < 0 ? null : (pen: CanvasRenderingContext2D, size: Size) => within(pen, size, axes, near)), [axes, near]);
  const missing = sweep.size - drawn.length;
  const onKeep = (axis: Axis, range: [number, number] | null): void => set({ keep: keep(kept, axis.id, range) }, { quietly: true });
  return (
    <div class="pad">
      <div class="toolbar">
        <AxesMenu all={[...ids.params.map((key) => `params.${key}`), ...metrics.map((key) => `metrics.${key}`)]} chosen={chosen} />
        <span class="quiet">{plural(kin.length, "run")} of {sweep.size.toLocaleString("en-US")}. Drag along an axis to keep a range, click the range to let go.</span>
        {missing > 0 && <span class="quiet" title="A line needs a number or a text on every axis">{missing.toLocaleString("en-US")} lack a value.</span>}
        {axes.length > 0 && <Ramp axis={axes[axes.length - 1]!} />}
        {kept.size > 0 && <button type="button" onClick={() => set({ keep: null })}>Keep all</button>}
        {kept.size > 0 && kin.length > 0 && <button type="button" onClick={() => go(compareHref(Array.from(kin.slice(0, MOST_CHARTED), sweep.id)))}>Chart these</button>}
      </div>
      {axes.length > 0 ? (
        <SweepChart
          name="parallel-coordinates" label={`Parallel coordinates of ${plural(sweep.size, "run")}`} most={MOST_HEIGHT} paint={paint} mark={mark}
          svg={(size) => svgOf(size, axes, drawn, kin)}
          axes={(size) => axes.map((axis, at) => <AxisMarks key={axis.id} axis={axis} at={at} of={axes.length} size={size} kept={kept.get(axis.id)} near={near} onKeep={(range) => onKeep(axis, range)} />)}
          onMove={(x, y, size) => setNear(lineNear(axes, kin, size, x, y))} onLeave={() => setNear(-1)}
          onPick={() => near >= 0 && go(href(`/runs/${sweep.id(near)}`))}
        />
      ) : <p class="quiet">No parameter differs between these runs.</p>}
      <p class="reading">{near >= 0 ? <><b>{sweep.name(near)}</b> {axes.map((axis) => `${axis.title} ${valueText(axis, axis.values[near]!)}`).join(" · ")}</> : " "}</p>
    </div>
  );
}

export function valueText(axis: Axis, value: number): string {
  return axis.categories ? (axis.categories[value] ?? "") : rounded(value);
}

/** What the colours say. */
function Ramp({ axis }: { axis: Axis }): JSX.Element {
  return (
    <span class="ramp quiet">
      {axis.title} {valueText(axis, axis.range[0])}
      <svg width="96" height="8" aria-hidden="true">{shades().map((color, i) => <rect key={i} x={i * 4} width="4" height="8" fill={color} />)}</svg>
      {valueText(axis, axis.range[1])}
    </span>
  );
}

function AxesMenu({ all, chosen }: { all: string[]; chosen: string[] }): JSX.Element {
  const toggle = (id: string): void => set({ axis: chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id] }, { quietly: true });
  return (
    <Menu label={`Axes (${chosen.length})`}>
      <div class="choices">{[...new Set([...chosen, ...all])].slice(0, 200).map((id) => <label key={id}><input type="checkbox" checked={chosen.includes(id)} onChange={() => toggle(id)} /> {id}</label>)}</div>
    </Menu>
  );
}
