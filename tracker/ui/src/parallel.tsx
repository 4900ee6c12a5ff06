/** Parallel coordinates: one line a run, one axis a parameter or metric; a drag on an axis keeps a range. */

import type { JSX } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { axisIds, axisOf, type Axis } from "./axes";
import { Canvas, FONT, ink } from "./canvas";
import { ramp } from "./colors";
import { go, href, list, set } from "./route";
import { mainMetric } from "./search";
import { compareHref } from "./bulk";
import { plural, rounded } from "./format";
import { Menu } from "./ui";
import type { Run } from "./wire";

const [TOP, BOTTOM, SIDE] = [34, 24, 70];
const HEIGHT = 460;
const MOST_AXES = 8;

/** `keep=<axis>~<low>~<high>`, in shares of the axis. */
type Kept = Map<string, [number, number]>;

export function Parallel({ runs }: { runs: Run[] }): JSX.Element {
  const ids = useMemo(() => axisIds(runs), [runs]);
  const wanted = list("axis");
  const main = mainMetric(ids.metrics);
  const chosen = wanted.length ? wanted : [...ids.params.slice(0, MOST_AXES - 1).map((key) => `params.${key}`), ...(main ? [`metrics.${main}`] : [])];
  const axes = useMemo(() => chosen.map((id) => axisOf(id, runs)), [runs, chosen.join("\n")]);
  const keptText = list("keep").join("\n");
  const kept = useMemo(() => keptOf(keptText), [keptText]);
  const [drag, setDrag] = useState<{ axis: number; from: number; to: number } | null>(null);
  const [near, setNear] = useState(-1);
  const pressed = useRef(false);
  const active = drag ? withDrag(kept, axes, drag) : kept;
  const inside = useMemo(() => within(runs, axes, active), [runs, axes, JSON.stringify([...active])]);
  const draw = useMemo(() => (pen: CanvasRenderingContext2D, width: number) => paint(pen, width, axes, inside, active, near), [axes, inside, near]);
  const onPointer = (kind: string, x: number, y: number, width: number): void => {
    const share = Math.min(1, Math.max(0, 1 - (y - TOP) / (HEIGHT - TOP - BOTTOM)));
    const gap = (width - 2 * SIDE) / Math.max(1, axes.length - 1);
    const axis = axes.length < 2 ? 0 : Math.round((x - SIDE) / gap);
    if (kind === "down" && Math.abs(x - SIDE - axis * gap) < 24 && axes[axis]) {
      pressed.current = true;
      setDrag({ axis, from: share, to: share });
    } else if (kind === "move" && pressed.current && drag) setDrag({ ...drag, to: share });
    else if (kind === "move") setNear(nearestRun(axes, inside, x, y, width));
    else if (kind === "leave") setNear(-1);
    else if (kind === "up" && drag) {
      pressed.current = false;
      keep(kept, axes[drag.axis]!.id, Math.abs(drag.to - drag.from) < 0.02 ? null : [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)]);
      setDrag(null);
    } else if (kind === "up" && near >= 0) go(href(`/runs/${runs[near]!.run_id}`));
  };
  const count = inside.reduce((sum, yes) => sum + yes, 0);
  const keptIds = runs.filter((_, i) => inside[i]).map((run) => run.run_id);
  const run = runs[near];
  return (
    <div class="pad">
      <div class="toolbar">
        <AxesMenu ids={ids} chosen={chosen} />
        <span class="quiet">{plural(count, "run")} of {runs.length.toLocaleString("en-US")}. Drag along an axis to keep a range, click on it to let go.</span>
        {kept.size > 0 && <button type="button" onClick={() => set({ keep: null })}>Keep all</button>}
        {kept.size > 0 && count > 0 && <button type="button" onClick={() => go(compareHref(keptIds.slice(0, 200)))}>Chart these</button>}
      </div>
      {axes.length > 0 ? (
        <div class="canvas-box"><Canvas height={HEIGHT} label={`Parallel coordinates of ${plural(runs.length, "run")}`} draw={draw} onPointer={onPointer} /></div>
      ) : <p class="quiet">No parameter differs between these runs.</p>}
      <p class="reading">{run ? <><b>{run.name}</b> {axes.map((axis) => `${axis.title} ${valueText(axis, near)}`).join(" · ")}</> : " "}</p>
    </div>
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
  if (range) next.set(id, range);
  else next.delete(id);
  set({ keep: [...next].map(([axis, [low, high]]) => `${axis}~${low.toFixed(3)}~${high.toFixed(3)}`) });
}

function withDrag(kept: Kept, axes: Axis[], { axis, from, to }: { axis: number; from: number; to: number }): Kept {
  return new Map(kept).set(axes[axis]!.id, [Math.min(from, to), Math.max(from, to)]);
}

function within(runs: Run[], axes: Axis[], kept: Kept): Uint8Array {
  return Uint8Array.from(runs, (_, i) => Number(axes.every((axis) => {
    const range = kept.get(axis.id);
    const share = axis.share(axis.values[i]!);
    return !range || (share >= range[0] - 1e-9 && share <= range[1] + 1e-9);
  })));
}

function valueText(axis: Axis, run: number): string {
  const value = axis.values[run]!;
  if (Number.isNaN(value)) return "—";
  return axis.categories ? axis.categories[value]! : rounded(value);
}

function xAt(width: number, axes: number, place: number): number {
  return axes < 2 ? width / 2 : SIDE + (place * (width - 2 * SIDE)) / (axes - 1);
}

function yAt(share: number): number {
  return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
}

function paint(pen: CanvasRenderingContext2D, width: number, axes: Axis[], inside: Uint8Array, kept: Kept, near: number): void {
  const last = axes[axes.length - 1];
  if (!last) return;
  const count = inside.reduce((sum, yes) => sum + yes, 0);
  pen.lineWidth = 1;
  const faint = ink("--grid");
  inside.forEach((yes, run) => {
    if (!yes) line(pen, width, axes, run, faint, 0.5);
  });
  inside.forEach((yes, run) => {
    if (yes) line(pen, width, axes, run, ramp(last.share(last.values[run]!)), Math.max(0.12, Math.min(0.9, 150 / Math.max(1, count))));
  });
  if (near >= 0) {
    pen.lineWidth = 3;
    line(pen, width, axes, near, ink("--text"), 1);
  }
  pen.globalAlpha = 1;
  pen.font = FONT;
  axes.forEach((axis, place) => paintAxis(pen, axis, xAt(width, axes.length, place), kept.get(axis.id)));
}

function line(pen: CanvasRenderingContext2D, width: number, axes: Axis[], run: number, color: string, alpha: number): void {
  pen.strokeStyle = color;
  pen.globalAlpha = alpha;
  pen.beginPath();
  let down = false;
  axes.forEach((axis, place) => {
    const value = axis.values[run]!;
    if (!Number.isFinite(value)) {
      down = false;
      return;
    }
    const [x, y] = [xAt(width, axes.length, place), yAt(axis.share(value))];
    if (down) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    down = true;
  });
  pen.stroke();
}

function paintAxis(pen: CanvasRenderingContext2D, axis: Axis, x: number, range: [number, number] | undefined): void {
  pen.strokeStyle = pen.fillStyle = ink("--text-2");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x, yAt(0));
  pen.lineTo(x, yAt(1));
  pen.stroke();
  pen.textAlign = "left";
  for (const { at, text } of axis.marks) {
    const y = yAt(axis.share(at));
    halo(pen, text.slice(0, 16), x + 5, y + 4);
  }
  pen.textAlign = "center";
  pen.fillStyle = ink(axis.isMetric ? "--accent" : "--text");
  pen.fillText(axis.title.slice(0, 22) + (axis.log ? " (log)" : ""), x, 16);
  if (!range) return;
  pen.fillStyle = ink("--accent");
  pen.globalAlpha = 0.3;
  pen.fillRect(x - 6, yAt(range[1]), 12, yAt(range[0]) - yAt(range[1]));
  pen.globalAlpha = 1;
}

/** Text that lines behind it do not spoil. */
function halo(pen: CanvasRenderingContext2D, text: string, x: number, y: number): void {
  pen.strokeStyle = ink("--ground");
  pen.lineWidth = 3;
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

function nearestRun(axes: Axis[], inside: Uint8Array, x: number, y: number, width: number): number {
  if (axes.length < 2) return -1;
  const gap = (width - 2 * SIDE) / (axes.length - 1);
  const left = Math.min(axes.length - 2, Math.max(0, Math.floor((x - SIDE) / gap)));
  const part = (x - SIDE - left * gap) / gap;
  let [best, distance] = [-1, 12];
  inside.forEach((yes, run) => {
    if (!yes) return;
    const [a, b] = [axes[left]!, axes[left + 1]!];
    const at = yAt(a.share(a.values[run]!) * (1 - part) + b.share(b.values[run]!) * part);
    const away = Math.abs(at - y);
    if (away < distance) [best, distance] = [run, away];
  });
  return best;
}
