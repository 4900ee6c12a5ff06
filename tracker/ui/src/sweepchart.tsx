/** The place of a sweep's chart: ECharts draws it and tells what is pointed at, picked and kept. */

import type { EChartsCoreOption, EChartsType } from "echarts/core";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ink } from "./colors";
import { pngOf, save } from "./export";
import { Menu, sayError } from "./ui";

type Library = typeof import("./echarts");

interface Props {
  name: string;
  label: string;
  height: number;
  option: EChartsCoreOption;
  /** The number of the datum under the pointer; -1: none. */
  onPoint: (place: number) => void;
  onPick: (place: number) => void;
  /** After each drawing. */
  onReady?: (chart: EChartsType) => void;
}

export function SweepChart({ name, label, height, option, onPoint, onPick, onReady }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const latest = useRef({ onPoint, onPick, onReady });
  latest.current = { onPoint, onPick, onReady };
  const [library, setLibrary] = useState<Library | null>(null);
  useEffect(() => {
    let over = false;
    import("./echarts").then((found) => {
      if (!over) setLibrary(found);
    }, sayError);
    return () => {
      over = true;
    };
  }, []);
  useEffect(() => {
    if (!library) return;
    const made = library.init(box.current, null, { renderer: "canvas" });
    chart.current = made;
    const place = (event: unknown): number => (event as { dataIndex: number }).dataIndex;
    made.on("mouseover", (event) => latest.current.onPoint(place(event)));
    made.on("mouseout", () => latest.current.onPoint(-1));
    made.on("click", (event) => latest.current.onPick(place(event)));
    const sized = new ResizeObserver(() => made.resize());
    sized.observe(box.current!);
    return () => {
      sized.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, [library]);
  useEffect(() => {
    if (!chart.current) return;
    chart.current.setOption(option, { notMerge: true });
    latest.current.onReady?.(chart.current);
  }, [library, option]);
  const svg = (): string => svgOf(library!, option, box.current!.clientWidth, height);
  return (
    <div class="sweep-chart" aria-busy={!library}>
      <div ref={box} role="img" aria-label={label} style={{ height: `${height}px` }} />
      <Menu label="⋯" title="Save this chart" align="right">
        <button type="button" data-closes disabled={!library} onClick={() => pngOf(svg()).then((png) => save(`${name}.png`, png, "image/png"), sayError)}>Save as PNG</button>
        <button type="button" data-closes disabled={!library} onClick={() => save(`${name}.svg`, svg(), "image/svg+xml")}>Save as SVG</button>
      </Menu>
    </div>
  );
}

function svgOf(library: Library, option: EChartsCoreOption, width: number, height: number): string {
  const made = library.init(null, null, { renderer: "svg", ssr: true, width, height });
  made.setOption({ ...option, backgroundColor: ink("--ground") });
  const text = made.renderToSVGString();
  made.dispose();
  return text;
}

/** What all texts of a chart look like. */
export function inkOf(): { text: string; quiet: string; grid: string; accent: string; ground: string } {
  return { text: ink("--text"), quiet: ink("--text-2"), grid: ink("--grid"), accent: ink("--accent"), ground: ink("--ground") };
}

/** Without double quotes: ECharts writes it into an SVG's attributes as it is. */
export const FAMILY = "system-ui, -apple-system, 'Segoe UI', sans-serif";
