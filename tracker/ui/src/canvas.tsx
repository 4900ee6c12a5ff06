/** A canvas as wide as its place, drawn again whenever that or the drawing changes. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  height: number;
  label: string;
  draw: (pen: CanvasRenderingContext2D, width: number, height: number) => void;
  onPointer?: (kind: "move" | "down" | "up" | "leave", x: number, y: number, width: number) => void;
}

export function Canvas({ height, label, draw, onPointer }: Props): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const parent = canvas.current!.parentElement!;
    const observer = new ResizeObserver(() => setWidth(parent.clientWidth));
    observer.observe(parent);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const element = canvas.current!;
    const unit = devicePixelRatio;
    [element.width, element.height] = [Math.round(width * unit), Math.round(height * unit)];
    const pen = element.getContext("2d")!;
    pen.scale(unit, unit);
    pen.clearRect(0, 0, width, height);
    if (width > 50) draw(pen, width, height);
  }, [width, height, draw]);
  const tell = (kind: "move" | "down" | "up" | "leave") => (event: PointerEvent) => {
    if (kind === "down") canvas.current!.setPointerCapture(event.pointerId);
    onPointer?.(kind, event.offsetX, event.offsetY, width);
  };
  return (
    <canvas
      ref={canvas} role="img" aria-label={label} style={{ width: `${width}px`, height: `${height}px` }}
      onPointerMove={tell("move")} onPointerDown={tell("down")} onPointerUp={tell("up")} onPointerLeave={tell("leave")}
    />
  );
}

export function ink(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const FONT = '11px system-ui, -apple-system, "Segoe UI", sans-serif';
