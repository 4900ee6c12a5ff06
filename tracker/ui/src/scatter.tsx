/** A parameter (or metric) against a metric, a point a run; and which parameters matter for it. */

import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { axisIds, axisOf, importance, type Axis } from "./axes";
import { Canvas, FONT, ink } from "./canvas";
import { plural, rounded } from "./format";
import { go, href, param, set } from "./route";
import { mainMetric } from "./search";
import { exact } from "./format";
import type { Run } from "./wire";

const HEIGHT = 420;
const BOX = { left: 64, top: 14, right: 16, bottom: 40 };

export function Scatter({ runs }: { runs: Run[] }): JSX.Element {
  const ids = useMemo(() => axisIds(runs), [runs]);
  const metric = param("sy") || `metrics.${mainMetric(ids.metrics)}`;
  const y = useMemo(() => axisOf(metric, runs), [metric, runs]);
  const ranked = useMemo(() => ids.params.map((key) => importance(axisOf(`params.${key}`, runs), y)).sort((a, b) => b.strength - a.strength), [ids, y]);
  const against = param("sx") || ranked[0]?.axis.id || metric;
  const x = useMemo(() => axisOf(against, runs), [against, runs]);
  const [near, setNear] = useState(-1);
  const draw = useMemo(() => (pen: CanvasRenderingContext2D, width: number) => paint(pen, width, x, y, near), [x, y, near]);
  const onPointer = (kind: string, px: number, py: number, width: number): void => {
    if (kind === "move") setNear(nearest(x, y, px, py, width));
    else if (kind === "leave") setNear(-1);
    else if (kind === "up" && near >= 0) go(href(`/runs/${runs[near]!.run_id}`));
  };
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
        <div class="toolbar">{choices(metric, "Up", metrics)} <span class="quiet">against</span> {choices(against, "Across", [...ids.params.map((key) => `params.${key}`), ...metrics])}</div>
        <div class="canvas-box"><Canvas height={HEIGHT} label={`${y.title} against ${x.title}`} draw={draw} onPointer={onPointer} /></div>
        <p class="reading">{run ? <><b>{run.name}</b> {x.title} {x.categories ? x.categories[x.values[near]!] : exact(x.values[near]!)} · {y.title} {exact(y.values[near]!)}</> : " "}</p>
      </section>
      <section aria-label="Importance">
        <h2>What {y.title} depends on</h2>
        <p class="quiet">Over {plural(runs.length, "run")}: how much of its order each parameter tells alone (correlation ratio of ranks, numbers in eighths; what chance would tell is taken off), and the rank correlation. Association, not cause, and no interactions.</p>
        <table class="bars">
          <thead><tr><th scope="col">parameter</th><th scope="col">strength</th><th scope="col" class="number">correlation</th></tr></thead>
          <tbody>
            {ranked.slice(0, 40).map(({ axis, strength, correlation, runs: used }) => (
              <tr key={axis.id} title={plural(used, "run")} aria-current={axis.id === against ? "true" : undefined}>
                <th scope="row"><button type="button" class="link" onClick={() => set({ sx: axis.id })}>{axis.title}</button></th>
                <td><meter min={0} max={1} value={strength} aria-label={`strength of ${axis.title}`} /> {strength.toFixed(2)}</td>
                <td class="number">{correlation === null ? "—" : rounded(correlation)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {!ranked.length && <p class="quiet">No parameter differs between these runs.</p>}
      </section>
    </div>
  );
}

function place(width: number, x: Axis, y: Axis, run: number): [number, number] {
  const [w, h] = [width - BOX.left - BOX.right, HEIGHT - BOX.top - BOX.bottom];
  return [BOX.left + x.share(x.values[run]!) * w, BOX.top + (1 - y.share(y.values[run]!)) * h];
}

function paint(pen: CanvasRenderingContext2D, width: number, x: Axis, y: Axis, near: number): void {
  const [w, h] = [width - BOX.left - BOX.right, HEIGHT - BOX.top - BOX.bottom];
  pen.font = FONT;
  pen.strokeStyle = ink("--grid");
  pen.fillStyle = ink("--text-2");
  pen.textAlign = "right";
  for (const { at, text } of y.marks) {
    const top = BOX.top + (1 - y.share(at)) * h;
    pen.strokeRect(BOX.left, top, w, 0);
    pen.fillText(text, BOX.left - 6, top + 4);
  }
  pen.textAlign = "center";
  for (const { at, text } of x.marks) pen.fillText(text.slice(0, 14), BOX.left + x.share(at) * w, HEIGHT - BOX.bottom + 16);
  pen.fillText(x.title + (x.log ? " (log)" : ""), BOX.left + w / 2, HEIGHT - 6);
  pen.fillStyle = ink("--accent");
  pen.globalAlpha = Math.max(0.25, Math.min(0.85, 200 / x.values.length));
  x.values.forEach((_, run) => {
    const [px, py] = place(width, x, y, run);
    if (!Number.isFinite(px) || !Number.isFinite(py)) return;
    pen.beginPath();
    pen.arc(px, py, run === near ? 6 : 3.2, 0, 2 * Math.PI);
    pen.fill();
  });
  pen.globalAlpha = 1;
}

function nearest(x: Axis, y: Axis, px: number, py: number, width: number): number {
  let [best, distance] = [-1, 15];
  x.values.forEach((_, run) => {
    const [left, top] = place(width, x, y, run);
    const away = Math.hypot(left - px, top - py);
    if (away < distance) [best, distance] = [run, away];
  });
  return best;
}
