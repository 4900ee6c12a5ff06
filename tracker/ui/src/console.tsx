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
    const read = (): Promise<void> => api.patiently(() => api.console_(id, { tail, limit: tail }, signal), signal, sayError).then((page) => {
      setLines(page.lines);
      setTotal(page.total);
    }, (error) => {
      if (!api.isAbort(error)) sayError(error);
    });
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
