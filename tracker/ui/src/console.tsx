/** What a run printed: its tail, followed; and what came before, on demand. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { save } from "./export";
import { moment, plural } from "./format";
import { Soon } from "./pool";
import { sayError } from "./ui";
import type { ConsoleEntry } from "./wire";

const TAIL = 1000;
const MOST = 10_000;
/** What is read to go on from what is there. */
const NEWS = 200;

/** Lines and those after them; null where some in between are missing. */
function joined(known: ConsoleEntry[], news: ConsoleEntry[]): ConsoleEntry[] | null {
  const last = known.at(-1)?.number;
  if (last === undefined || !news.length || news[0]!.number > last + 1) return null;
  return [...known, ...news.filter((line) => line.number > last)];
}

/** `told` grows when lines were appended. */
export function Console({ id, told }: { id: string; told: number }): JSX.Element {
  const [lines, setLines] = useState<ConsoleEntry[] | null>(null);
  const [tail, setTail] = useState(TAIL);
  const [total, setTotal] = useState(0);
  const [text, setText] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const reading = useRef<Soon>(null);
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    let known: ConsoleEntry[] = [];
    const last = (count: number): ReturnType<typeof api.console_> => api.patiently(() => api.console_(id, { tail: count, limit: count }, signal), signal, sayError);
    const read = async (): Promise<void> => {
      try {
        let page = await last(known.length ? NEWS : tail);
        const whole = joined(known, page.lines);
        if (known.length && !whole && page.lines.length < page.total) page = await last(tail);
        setLines(known = (whole ?? page.lines).slice(-tail));
        setTotal(page.total);
      } catch (error) {
        if (!api.isAbort(error)) sayError(error);
      }
    };
    const soon = (reading.current = new Soon(read, () => 0));
    soon.ask();
    return () => {
      soon.end();
      controller.abort();
    };
  }, [id, tail]);
  useEffect(() => reading.current?.ask(), [told]);
  useEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  useEffect(() => { // the head may grow above it
    const sizes = new ResizeObserver(() => {
      if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
    });
    sizes.observe(box.current!);
    return () => sizes.disconnect();
  }, []);
  const onScroll = (): void => {
    const { scrollTop, clientHeight, scrollHeight } = box.current!;
    atEnd.current = scrollTop + clientHeight > scrollHeight - 40;
  };
  const shown = (lines ?? []).filter((line) => line.text.toLowerCase().includes(text.toLowerCase()));
  const toText = (): void => save(`console-${id}.txt`, (lines ?? []).map((line) => line.text).join("\n"), "text/plain");
  return (
    <div class="console">
      <div class="finder">
        <input type="search" aria-label="Find in the console" placeholder="Find" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <span class="quiet">{lines && (lines.length < total ? `the last ${plural(lines.length, "line")} of ${total.toLocaleString("en-US")}` : plural(total, "line"))}</span>
        {lines && lines.length < total && tail < MOST && <button type="button" onClick={() => setTail(MOST)}>More</button>}
        <button type="button" onClick={toText} disabled={!lines?.length}>Save</button>
      </div>
      <div class="lines" ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-label="Console">
        {shown.map((line) => (
          <div key={line.number} class={line.stream} title={moment(line.timestamp)}>
            <span class="line-number">{line.number}</span>{line.text}
          </div>
        ))}
        {lines && !lines.length && <p class="quiet">Nothing was printed, or the run does not send its console.</p>}
      </div>
    </div>
  );
}
