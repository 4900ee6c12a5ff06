/**
 * Lines and dots laid over each other by the ten thousand, pixel by pixel: where many meet it is darker. A canvas
 * that makes each smooth at its edges takes seconds for as many where no graphics card helps.
 */

export type Rgb = [number, number, number];

/** A pixel in the numbers that lines are drawn with. */
const FIXED = 1 << 16;

export class Density {
  private readonly pixels: Int32Array; // signed: what is beyond 31 bits would be made a double at each step
  private readonly ground: number;

  /** Width and height in pixels of the screen; the ground is what the first line of a pixel is mixed with. */
  constructor(private readonly width: number, private readonly height: number, ground: Rgb) {
    this.pixels = new Int32Array(width * height);
    this.ground = packed(ground);
  }

  /** From point to point inside the picture, a pixel for each step along the longer side. */
  line(x0: number, y0: number, x1: number, y1: number, color: number, alpha: number): void {
    const { pixels, width, ground } = this;
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0))));
    const dx = (((x1 - x0) / steps) * FIXED) | 0;
    const dy = (((y1 - y0) / steps) * FIXED) | 0;
    let x = (x0 * FIXED) | 0;
    let y = (y0 * FIXED) | 0;
    const red = color & 0xff00ff;
    const green = color & 0x00ff00;
    for (let i = 0; i < steps; i++, x += dx, y += dy) { // millions at once: integers only, no calls, no arrays
      const at = Math.imul(y >> 16, width) + (x >> 16);
      const before = pixels[at] || ground;
      const r = before & 0xff00ff;
      const g = before & 0x00ff00;
      const mixed = ((r + (Math.imul(red - r, alpha) >> 8)) & 0xff00ff) | ((g + (Math.imul(green - g, alpha) >> 8)) & 0x00ff00);
      pixels[at] = mixed | 0xff000000;
    }
  }

  /** A disc around a point; what reaches over the edge is cut. */
  dot(x: number, y: number, radius: number, color: number, alpha: number): void {
    const { pixels, width, height, ground } = this;
    const red = color & 0xff00ff;
    const green = color & 0x00ff00;
    for (let row = Math.max(0, Math.ceil(y - radius)); row <= Math.min(height - 1, y + radius); row++) {
      const half = Math.sqrt(Math.max(0, radius * radius - (row - y) * (row - y)));
      for (let column = Math.max(0, Math.ceil(x - half)); column <= Math.min(width - 1, x + half); column++) {
        const at = row * width + column;
        const before = pixels[at] || ground;
        const r = before & 0xff00ff;
        const g = before & 0x00ff00;
        const mixed = ((r + (Math.imul(red - r, alpha) >> 8)) & 0xff00ff) | ((g + (Math.imul(green - g, alpha) >> 8)) & 0x00ff00);
        pixels[at] = mixed | 0xff000000;
      }
    }
  }

  /** Laid over what is on the canvas, at its upper left corner, whatever its scale. */
  onto(pen: CanvasRenderingContext2D): void {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.width, this.height];
    canvas.getContext("2d")!.putImageData(new ImageData(new Uint8ClampedArray(this.pixels.buffer as ArrayBuffer), this.width, this.height), 0, 0);
    pen.save();
    pen.resetTransform();
    pen.drawImage(canvas, 0, 0);
    pen.restore();
  }
}

/** As a pixel has it on every machine that has a browser: red lowest. */
export function packed([red, green, blue]: Rgb): number {
  return (0xff << 24) | (blue << 16) | (green << 8) | red;
}

/** Of `rgb(1,2,3)` or `#010203`. */
export function rgbOf(color: string): Rgb {
  if (color.startsWith("#")) {
    const hex = parseInt(color.length === 4 ? color.slice(1).replace(/./g, "$&$&") : color.slice(1), 16);
    return [hex >> 16, (hex >> 8) & 0xff, hex & 0xff];
  }
  const [red, green, blue] = (color.match(/[\d.]+/g) ?? ["0", "0", "0"]).map(Number);
  return [red!, green!, blue!];
}
