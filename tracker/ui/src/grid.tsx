/** The runs table: only the rows and columns on screen exist; everything else is scroll height. */

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { JSX, RefObject } from "preact";
import { useEffect, useReducer, useRef } from "preact/hooks";
import { type Column, NAME } from "./cells";
import { colorIndex, known } from "./colors";
import { go, href } from "./route";
import type { Table } from "./table";
import { Swatch } from "./ui";
import type { Run } from "./wire";

const ROW = 30;
const CHECK = 36;

interface Props {
  table: Table;
  columns: Column[];
  best: string[];
  order: string;
  onOrder: (order: string) => void;
  chosen: Map<string, Run>;
  onChoose: (run: Run, range: boolean) => void;
  onChooseAll: () => void;
}

export function Grid(props: Props): JSX.Element {
  const { table, columns, best, chosen } = props;
  const scroller = useRef<HTMLDivElement>(null);
  void table.version.value;
  const total = table.total.value ?? 0;
  const rows = useVirtual(scroller, total, () => ROW, false);
  const across = useVirtual(scroller, columns.length, (i) => columns[i]!.width, true);
  const shownRows = rows.getVirtualItems();
  const shownColumns = across.getVirtualItems();
  const [first, last] = [shownRows[0]?.index ?? 0, shownRows.at(-1)?.index ?? 0];
  const bestText = best.join("\n");
  const version = table.version.value;
  useEffect(() => table.show(first, last, best), [first, last, total, bestText, version]);

  const start = CHECK + NAME.width;
  const width = start + across.getTotalSize();
  const place = (i: number): { left: string; width: string } => {
    const item = shownColumns.find((one) => one.index === i)!;
    return { left: `${start + item.start}px`, width: `${item.size}px` };
  };
  const onKey = (event: KeyboardEvent): void => moved(event, props, first);
  return (
    <div class="grid" ref={scroller} role="grid" aria-label="Runs" aria-rowcount={total + 1} aria-colcount={columns.length + 2} tabIndex={0} onKeyDown={onKey}>
      <div class="grid-head" role="row" aria-rowindex={1} style={{ width: `${width}px` }}>
        <div class="grid-fixed" role="presentation">
          <span role="columnheader" class="check">
            <input type="checkbox" aria-label="Choose all rows that match" checked={chosen.size > 0} onChange={props.onChooseAll} />
          </span>
          <Head column={NAME} {...props} style={{ width: `${NAME.width}px` }} />
        </div>
        {shownColumns.map(({ index }) => <Head key={columns[index]!.id} column={columns[index]!} {...props} style={place(index)} />)}
      </div>
      <div class="grid-body" role="rowgroup" style={{ height: `${rows.getTotalSize()}px`, width: `${width}px` }}>
        {shownRows.map(({ index, start: top }) => {
          const run = table.row(index);
          return (
            <div
              key={index} role="row" aria-rowindex={index + 2} aria-selected={run ? chosen.has(run.run_id) : false} tabIndex={-1}
              class={`grid-row${run?.lifecycle === "deleted" ? " gone" : ""}`} style={{ top: `${top}px`, width: `${width}px` }} data-row={index} data-run={run?.run_id}
            >
              {run && <RowCells {...{ run, table, columns, chosen }} onChoose={props.onChoose} shown={shownColumns.map((one) => one.index)} place={place} />}
            </div>
          );
        })}
      </div>
    </div>
  );
}

interface RowProps {
  run: Run;
  table: Table;
  columns: Column[];
  chosen: Map<string, Run>;
  onChoose: (run: Run, range: boolean) => void;
  shown: number[];
  place: (i: number) => { left: string; width: string };
}

function RowCells({ run, table, columns, chosen, onChoose, shown, place }: RowProps): JSX.Element {
  const is = chosen.has(run.run_id);
  return (
    <>
      <div class="grid-fixed" role="presentation">
        <span role="gridcell" class="check">
          <input type="checkbox" aria-label={`Choose ${run.name}`} checked={is} onClick={(event) => onChoose(run, event.shiftKey)} tabIndex={-1} />
        </span>
        <span role="gridcell" class="name" style={{ width: `${NAME.width}px` }}>{NAME.cell(run, table)}{(is || known(run.run_id)) && <Swatch color={colorIndex(run.run_id)} />}</span>
      </div>
      {shown.map((i) => (
        <span key={columns[i]!.id} role="gridcell" class={`cell${columns[i]!.numeric ? " number" : ""}`} style={place(i)}>
          {columns[i]!.cell(run, table)}
        </span>
      ))}
    </>
  );
}

interface HeadProps {
  column: Column;
  order: string;
  onOrder: (order: string) => void;
  style: { left?: string; width: string };
}

function Head({ column, order, onOrder, style }: HeadProps): JSX.Element {
  const up = order === `${column.order} ASC`;
  const down = order === `${column.order} DESC`;
  const next = up ? `${column.order} DESC` : down ? "" : `${column.order} ASC`;
  return (
    <span role="columnheader" class={`head${column.numeric ? " number" : ""} ${column.kind}`} style={style} aria-sort={up ? "ascending" : down ? "descending" : "none"}>
      <button type="button" title={`${column.id} — sort`} onClick={() => onOrder(next)}>
        {column.title}{up ? " ↑" : down ? " ↓" : ""}
      </button>
    </span>
  );
}

/** Arrow keys move between rows, Enter opens, x or Space chooses. */
function moved(event: KeyboardEvent, { table, onChoose }: Props, first: number): void {
  const rows = event.currentTarget as HTMLElement;
  const row = (event.target as HTMLElement).closest<HTMLElement>("[data-row]");
  const index = row ? Number(row.dataset["row"]) : first - 1;
  const run = table.row(index);
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const wanted = index + (event.key === "ArrowDown" ? 1 : -1);
    event.preventDefault();
    rows.querySelector<HTMLElement>(`[data-row="${wanted}"]`)?.focus();
  } else if (event.key === "Enter" && run && row === event.target) go(href(`/runs/${run.run_id}`));
  else if ((event.key.toLowerCase() === "x" || event.key === " ") && run && row === event.target) {
    event.preventDefault();
    onChoose(run, event.shiftKey);
  }
}

function useVirtual(
  scroller: RefObject<HTMLDivElement>, count: number, size: (i: number) => number, horizontal: boolean,
): Virtualizer<HTMLDivElement, Element> {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const made = useRef<Virtualizer<HTMLDivElement, Element>>(null);
  const options = {
    count, horizontal, estimateSize: size, overscan: horizontal ? 2 : 12,
    getScrollElement: () => scroller.current, scrollToFn: elementScroll,
    observeElementRect, observeElementOffset, onChange: () => redraw(0),
    initialRect: { width: innerWidth, height: innerHeight },
  };
  if (!made.current) (made as { current: unknown }).current = new Virtualizer(options);
  const virtual = made.current!;
  virtual.setOptions(options);
  useEffect(() => virtual._didMount(), []);
  useEffect(() => virtual._willUpdate());
  const widths = Array.from({ length: horizontal ? count : 0 }, (_, i) => size(i)).join();
  useEffect(() => virtual.measure(), [widths]);
  return virtual;
}
