/** The place of a sweep's chart: a canvas for what is drawn, one above for what is pointed at, and axes as SVG. */

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ink } from "./colors";
import { pngOf, save } from "./export";
import { Menu, sayError } from "./ui";

export interface Size {
  width: number;
  height: number;
}

type Painter = (pen: CanvasRenderingContext2D, size: Size) => void;

interface Props {
  name: string;
  label: string;
  /** The chart is as high as the window leaves, up to this. */
  most: number;
  /** In CSS pixels.  Another function is another drawing. */
  paint: Painter;
  /** What is pointed at, above everything else. */
  mark: Painter | null;
  /** As a file, white and at its own size. */
  svg: (size: Size) => string;
  axes: (size: Size) => ComponentChildren;
  onMove: (x: number, y: number, size: Size) => void;
  onLeave: () => void;
  onPick: () => void;
}

export function SweepChart({ name, label, most, paint, mark, svg, axes, onMove, onLeave, onPick }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const measure = (): void => {
    const found = { width: box.current!.clientWidth, height: heightOf(box.current!, most) };
    setSize((now) => (now.width === found.width && now.height === found.height ? now : found));
  };
  const below = useRef<HTMLCanvasElement>(null);
  const above = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: LEAST });
  const { width, height } = size;
  useEffect(() => {
    const sized = new ResizeObserver(measure);
    sized.observe(box.current!);
    addEventListener("resize", measure);
    return () => {
      sized.disconnect();
      removeEventListener("resize", measure);
    };
  }, []);
  useLayoutEffect(measure, []);
  useLayoutEffect(() => {
    if (width) paint(penOf(below.current!, size), size);
  }, [paint, width, height]);
  useLayoutEffect(() => {
    if (!width) return;
    const pen = penOf(above.current!, size);
    mark?.(pen, size);
  }, [mark, width, height]);
  const at = (event: PointerEvent): void => {
    const { left, top } = box.current!.getBoundingClientRect();
    onMove(event.clientX - left, event.clientY - top, size);
  };
  return (
    <div class="sweep-chart" aria-busy={width === 0}>
      <div ref={box} class="sweep-box" role="img" aria-label={label} style={{ height: `${height}px` }} onPointerDown={at} onPointerMove={at} onPointerLeave={onLeave} onClick={onPick}>
        <canvas ref={below} />
        <canvas ref={above} />
        {width > 0 && <svg width={width} height={height} aria-hidden="true">{axes(size)}</svg>}
      </div>
      <Menu label="⋯" title="Save this chart" align="right">
        <button type="button" data-closes onClick={() => pngOf(svg(size)).then((png) => save(`${name}.png`, png, "image/png"), sayError)}>Save as PNG</button>
        <button type="button" data-closes onClick={() => save(`${name}.svg`, svg(size), "image/svg+xml")}>Save as SVG</button>
      </Menu>
    </div>
  );
}

const LEAST = 420;
/** Pixels below a chart: the line that reads what is pointed at, and margins. */
const BELOW = 46;

/** What the window leaves below the place where the chart begins. */
function heightOf(box: HTMLElement, most: number): number {
  const top = box.getBoundingClientRect().top + (box.closest("main")?.scrollTop ?? 0);
  return Math.round(Math.min(most, Math.max(LEAST, innerHeight - top - BELOW)));
}

/** A clean canvas of this size, drawn in CSS pixels. */
function penOf(canvas: HTMLCanvasElement, { width, height }: Size): CanvasRenderingContext2D {
  const unit = devicePixelRatio;
  [canvas.width, canvas.height] = [Math.round(width * unit), Math.round(height * unit)];
  const pen = canvas.getContext("2d")!;
  pen.scale(unit, unit);
  return pen;
}

/** The colours of a chart, as this theme has them. */
export function inkOf(): { text: string; quiet: string; grid: string; accent: string; ground: string } {
  return { text: ink("--text"), quiet: ink("--text-2"), grid: ink("--grid"), accent: ink("--accent"), ground: ink("--ground") };
}
