/** Which columns a table has. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Column, FIXED_IDS } from "./cells";
import { set } from "./route";
import type { Keys } from "./search";
import { Menu } from "./ui";

const LISTED = 200;

export function ColumnChooser({ keys, columns }: { keys: Keys; columns: Column[] }): JSX.Element {
  const [text, setText] = useState("");
  const shown = new Set(columns.map((column) => column.id));
  const all = [
    ...FIXED_IDS,
    ...keys.metrics.flatMap((key) => [`metrics.${key}`, `min metrics.${key}`, `max metrics.${key}`]),
    ...keys.params.map((key) => `params.${key}`), ...keys.tags.map((key) => `tags.${key}`),
  ];
  const ids = [...new Set([...columns.map((column) => column.id), ...all])];
  const typed = text.trim();
  const found = ids.filter((id) => id.toLowerCase().includes(typed.toLowerCase()));
  if (/^((min|max) )?(params|metrics|tags)\../.test(typed) && !ids.includes(typed)) found.unshift(typed);
  const toggle = (id: string): void =>
    set({ col: shown.has(id) ? [...shown].filter((one) => one !== id) : [...shown, id] }, { quietly: true });
  return (
    <Menu label={`Columns (${columns.length})`} align="right">
      <input aria-label="Find a column" placeholder="Find, or metrics.key" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <div class="choices">
        {found.slice(0, LISTED).map((id) => (
          <label key={id} title={id}><input type="checkbox" checked={shown.has(id)} onChange={() => toggle(id)} /> {id}</label>
        ))}
      </div>
      <button type="button" data-closes onClick={() => set({ col: null })}>As at first</button>
    </Menu>
  );
}
