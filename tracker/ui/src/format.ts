/** Numbers and times as people read them.  The exact form is `exact`. */

export function rounded(value: number | null): string {
  if (value === null) return "";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return minus(value.toLocaleString("en-US"));
  if (size >= 1e6 || size < 1e-4) return minus(value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e"));
  return minus(size >= 1000 ? value.toFixed(1) : value.toPrecision(4));
}

/** A number on an axis: round already, so without zeros at its end. */
export function tick(value: number | null): string {
  if (value === null) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    return minus(Number(value.toPrecision(4)).toExponential().replace("e+", "e"));
  }
  if (size >= 10_000 && Number.isInteger(value)) return minus(value.toLocaleString("en-US"));
  return minus(String(Number(value.toPrecision(6))));
}

/** Every digit that tells this double from its neighbours. */
export function exact(value: number | null): string {
  return value === null ? "" : Object.is(value, -0) ? "-0" : String(value);
}

function minus(text: string): string {
  return text.replace(/-/g, "−");
}

/** A parameter: its text, unless it is a number that is long. */
export function shown(text: string): string {
  const number = Number(text);
  return text.length > 8 && text.trim() !== "" && !Number.isNaN(number) ? rounded(number) : text;
}

export function duration(seconds: number | null): string {
  if (seconds === null || seconds < 0) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${pad(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 48) return `${hours} h ${pad(Math.floor((seconds % 3600) / 60))} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function ago(time: number, now: number): string {
  const seconds = Math.max(0, (now - time) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 86400 * 60) return `${Math.floor(seconds / 86400)} d ago`;
  return moment(time).slice(0, 10);
}

/** For files: UTC, to the millisecond, 2026-03-01T14:05:09.250Z. */
export function utc(time: number | null): string {
  const at = new Date(time ?? NaN);
  return Number.isNaN(at.getTime()) ? String(time ?? "") : at.toISOString();
}

/** Local time, 2026-03-01 14:05:09. */
export function moment(time: number): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** A moment on an axis whose labels are `apart` seconds from each other: of its day, where none begins. */
export function clock(seconds: number, apart: number): string {
  const [day, time] = moment(seconds * 1_000).split(" ");
  if (apart >= 86_400) return day!.slice(2);
  return time === "00:00:00" ? day!.slice(5) : apart >= 60 ? time!.slice(0, 5) : time!;
}

export function bytes(size: number | null): string {
  if (size === null) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

function pad(number: number): string {
  return String(number).padStart(2, "0");
}

/** One field of a CSV line.  What a spreadsheet would run as a formula is made text. */
export function csv(value: string | number | null): string {
  if (value === null) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r\n]/.test(text) && Number.isNaN(Number(text))) {
    text = `'${text}`;
  }
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
