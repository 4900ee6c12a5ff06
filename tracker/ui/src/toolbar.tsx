/** What is set for all charts of a page at once. */

import type { JSX } from "preact";
import type { ChartData } from "./chartdata";
import { settings, setZoom } from "./chartstate";
import { param, set } from "./route";

interface Props {
  metrics: string[];
  data: ChartData;
  children?: JSX.Element | null | false;
}

const AXES: [string, string][] = [["step", "Step"], ["relative", "Relative time"], ["time", "Wall time"]];

export function Toolbar({ metrics, data, children }: Props): JSX.Element {
  const state = settings.value;
  const keys = state.along && !metrics.includes(state.along) ? [state.along, ...metrics] : metrics;
  return (
    <div class="toolbar" role="toolbar" aria-label="Charts">
      <label>
        X axis{" "}
        <select value={state.x} onChange={(event) => set({ x: event.currentTarget.value === "step" ? null : event.currentTarget.value, zoom: null })}>
          {AXES.map(([value, label]) => <option key={value} value={value}>{label}</option>)}
          <optgroup label="Another metric">
            {keys.slice(0, 300).map((key) => <option key={key} value={key}>{key}</option>)}
          </optgroup>
        </select>
      </label>
      <label>
        Smoothing{" "}
        <input
          type="range" min="0" max="20" step="0.5" value={state.smoothing} aria-valuetext={`half-life ${state.smoothing} % of the axis`}
          title="Half-life of an exponential mean, in percent of the axis" onInput={(event) => set({ smooth: Number(event.currentTarget.value) ? event.currentTarget.value : null }, { quietly: true })}
        />
        <output>{state.smoothing ? `${state.smoothing} %` : "off"}</output>
      </label>
      <label><input type="checkbox" checked={param("log") === "1"} onChange={(event) => set({ log: event.currentTarget.checked ? "1" : null })} /> Log y</label>
      <label><input type="checkbox" checked={param("logx") === "1"} onChange={(event) => set({ logx: event.currentTarget.checked ? "1" : null })} /> Log x</label>
      {children}
      {state.zoom && <button type="button" title={Number.isFinite(state.zoom[1]) ? "Everything again" : "Everything again; new points are followed now, too"} onClick={() => setZoom(null)}>Reset zoom</button>}
      {data.error.value && <span class="warning" role="alert">{data.error.value}</span>}
    </div>
  );
}
