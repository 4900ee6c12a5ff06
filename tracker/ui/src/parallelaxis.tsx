/** One axis of parallel coordinates: its name, its labels, the range that is kept, and a drag that chooses one. */

import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Axis } from "./axes";
import { ticks } from "./extent";
import { rounded, tick } from "./format";
import { axisX, axisY, BOTTOM, LEFT, RIGHT, TOP, valueAt } from "./parallellines";
import type { Size } from "./sweepchart";

const GRIP = 12;
const LETTER = 6.2;
/** Between labels. */
const APART = 15;

interface Props {
  axis: Axis;
  at: number;
  of: number;
  size: Size;
  kept: [number, number] | undefined;
  /** The run that is pointed at; -1: none. */
  near: number;
  onKeep: (range: [number, number] | null) => void;
}

export function AxisMarks({ axis, at, of, size, kept, near, onKeep }: Props): JSX.Element {
  const x = axisX(at, of, size);
  const room = of > 1 ? (size.width - LEFT - RIGHT) / (of - 1) - 12 : size.width - 20;
  const name = axis.title + (axis.log ? " (log)" : "");
  const value = near >= 0 ? axis.values[near]! : NaN;
  const isLast = at === of - 1 && of > 1;
  const side = isLast ? { x: x + 7, "text-anchor": "start" as const } : { x: x - 7, "text-anchor": "end" as const };
  return (
    <g class="axis">
      <text x={x} y={TOP - 18} text-anchor="middle" class={axis.isMetric ? "axis-name metric" : "axis-name"}><title>{name}</title>{cut(name, room)}</text>
      <line x1={x} y1={TOP} x2={x} y2={size.height - BOTTOM} />
      {near < 0 && labels(axis, size).map(([text, y]) => <text key={y} {...side} y={y + 4}>{cut(text, isLast ? RIGHT - 10 : Math.max(60, room - 10))}</text>)}
      {near >= 0 && <text class="axis-value" {...side} y={axisY(axis, value, size) + 4}>{axis.categories ? axis.categories[value] : rounded(value)}</text>}
      <Brush axis={axis} x={x} size={size} kept={kept} onKeep={onKeep} />
    </g>
  );
}

/** What stands beside the axis, none above another. */
function labels(axis: Axis, size: Size): [string, number][] {
  const room = size.height - TOP - BOTTOM;
  const { categories, few, range, log } = axis;
  const values = categories ? [...categories.keys()] : (few ?? ticks(range, Math.floor(room / 70), log));
  const all = values.map((value): [string, number] => [categories ? categories[value]! : tick(value), axisY(axis, value, size)]);
  const shown: [string, number][] = [];
  for (const one of all) if (shown.every(([, y]) => Math.abs(y - one[1]) >= APART)) shown.push(one);
  return shown;
}

function cut(text: string, width: number): string {
  const letters = Math.max(4, Math.floor(width / LETTER));
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

interface BrushProps {
  axis: Axis;
  x: number;
  size: Size;
  kept: [number, number] | undefined;
  onKeep: (range: [number, number] | null) => void;
}

/** A drag keeps what it covers; a click lets go. */
function Brush({ axis, x, size, kept, onKeep }: BrushProps): JSX.Element {
  const from = useRef(0);
  const [to, setTo] = useState<number | null>(null);
  const yOf = (event: PointerEvent): number => event.clientY - (event.currentTarget as SVGElement).ownerSVGElement!.getBoundingClientRect().top;
  const begin = (event: PointerEvent): void => {
    (event.currentTarget as SVGElement).setPointerCapture(event.pointerId);
    event.preventDefault();
    from.current = yOf(event);
    setTo(from.current);
  };
  const end = (event: PointerEvent): void => {
    if (to === null) return;
    setTo(null);
    const y = yOf(event);
    if (Math.abs(y - from.current) >= 4) onKeep([valueAt(axis, from.current, size), valueAt(axis, y, size)]);
    else if (kept) onKeep(null);
  };
  const ends = to !== null ? [from.current, to] : kept ? kept.map((value) => axisY(axis, value, size)) : null;
  const [top, bottom] = ends ? [Math.max(TOP, Math.min(...ends)), Math.min(size.height - BOTTOM, Math.max(...ends))] : [0, 0];
  return (
    <>
      {ends && <rect class="kept" x={x - GRIP / 2} width={GRIP} y={top} height={Math.max(2, bottom - top)} rx="2" />}
      <rect
        class="grip" x={x - GRIP} width={2 * GRIP} y={TOP - 4} height={size.height - TOP - BOTTOM + 8}
        onPointerDown={begin} onPointerMove={(event) => to !== null && setTo(yOf(event))} onPointerUp={end} onPointerCancel={() => setTo(null)} onClick={(event) => event.stopPropagation()}
      />
    </>
  );
}
