/** The columnar answer: MessagePack with little-endian arrays; docs/api.md, "Columns". */

export interface Columns {
  runId: string;
  key: string;
  steps: Float64Array;
  times: Float64Array;
  values: Float64Array;
  /** Size of each bucket of four points (first, lowest, highest, last); null: every point. */
  counts: Float64Array | null;
  /** Where the next page of a history begins; null: there is none. */
  next: string | null;
}

export function decodeColumns(buffer: ArrayBuffer): Columns[] {
  const reader = new Reader(buffer);
  reader.array();
  const format = reader.next();
  if (format !== 1) throw new Error(`columns of an unknown format ${String(format)}`);
  const size = reader.array();
  const found: Columns[] = [];
  for (let i = 0; i < size; i++) found.push(series(reader));
  return found;
}

function series(reader: Reader): Columns {
  const fields = reader.array();
  const [runId, key] = [reader.next() as string, reader.next() as string];
  const steps = integers(reader.next() as DataView);
  const times = integers(reader.next() as DataView);
  const values = floats(reader.next() as DataView);
  const next = reader.next() as string | null;
  const sampled = reader.next() as boolean;
  const counts = integers(reader.next() as DataView);
  for (let i = 8; i < fields; i++) reader.next();
  return { runId, key, steps, times, values, counts: sampled ? counts : null, next };
}

/** Exact up to 2^53, the nearest double beyond. */
function integers(view: DataView): Float64Array {
  const bytes = copied(view);
  const [low, high] = [new Uint32Array(bytes), new Int32Array(bytes)];
  const out = new Float64Array(low.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = high[2 * i + 1]! * 4294967296 + low[2 * i]!;
  return out;
}

function floats(view: DataView): Float64Array {
  return new Float64Array(copied(view));
}

/** Typed arrays begin at multiples of their element's size; every machine that has a browser is little-endian. */
function copied({ buffer, byteOffset, byteLength }: DataView): ArrayBuffer {
  return buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
}

export type Item = string | number | boolean | null | DataView;

/** As much of MessagePack as the columnar answers are made of. */
export class Reader {
  private at = 0;
  private readonly view: DataView;
  private readonly text = new TextDecoder();

  constructor(private readonly buffer: ArrayBuffer) {
    this.view = new DataView(buffer);
  }

  /** The length of an array that begins here. */
  array(): number {
    const byte = this.view.getUint8(this.at++);
    if (byte >= 0x90 && byte <= 0x9f) return byte & 0x0f;
    if (byte === 0xdc) return this.uint(2);
    if (byte === 0xdd) return this.uint(4);
    throw new Error(`no array in columns: 0x${byte.toString(16)}`);
  }

  next(): Item {
    const byte = this.view.getUint8(this.at++);
    if (byte < 0x80) return byte;
    if (byte >= 0xa0 && byte <= 0xbf) return this.string(byte & 0x1f);
    switch (byte) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.bytes(this.uint(1));
      case 0xc5: return this.bytes(this.uint(2));
      case 0xc6: return this.bytes(this.uint(4));
      case 0xcc: return this.uint(1);
      case 0xcd: return this.uint(2);
      case 0xce: return this.uint(4);
      case 0xd9: return this.string(this.uint(1));
      case 0xda: return this.string(this.uint(2));
      case 0xdb: return this.string(this.uint(4));
      default: throw new Error(`unexpected byte in columns: 0x${byte.toString(16)}`);
    }
  }

  private uint(bytes: 1 | 2 | 4): number {
    const at = this.at;
    this.at += bytes;
    if (bytes === 1) return this.view.getUint8(at);
    return bytes === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  private bytes(length: number): DataView {
    this.at += length;
    return new DataView(this.buffer, this.at - length, length);
  }

  private string(length: number): string {
    return this.text.decode(this.bytes(length));
  }
}
