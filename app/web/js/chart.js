const RIGHT = 78;
const BOTTOM = 24;
const TOP = 34;
const SLOT = 9;
const VOLUME_SHARE = 0.16;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { up: read("--up"), down: read("--down"), line: read("--line"), muted: read("--muted"), accent: read("--accent") };
}

/** Round distance between grid lines for about n of them. */
function niceStep(span, n) {
  const raw = span / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= raw);
}

/** Candles on a canvas, newest at the right; drawn at most once a frame. */
export class CandleChart {
  #canvas;
  #candles = [];
  #decimals = 2;
  #pending = false;
  #pointer = null;
  #onHover;

  /** @param onHover called with the candle under the pointer, or the newest one */
  constructor(canvas, onHover) {
    this.#canvas = canvas;
    this.#onHover = onHover;
    new ResizeObserver(() => this.#schedule()).observe(canvas);
    canvas.addEventListener("pointermove", (event) => {
      this.#pointer = event.offsetX;
      this.#schedule();
    });
    canvas.addEventListener("pointerleave", () => {
      this.#pointer = null;
      this.#schedule();
    });
  }

  /** @param candles {time (ms), open, high, low, close, volume} as numbers, oldest first */
  show(candles, decimals) {
    this.#candles = candles;
    this.#decimals = decimals;
    this.#schedule();
  }

  #schedule() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      this.#draw();
    });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = width * ratio;
    this.#canvas.height = height * ratio;
    const context = this.#canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px Inter, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    const palette = colours();
    const plot = { width: width - RIGHT, height: height - TOP - BOTTOM };
    const seen = this.#candles.slice(-Math.max(1, Math.floor(plot.width / SLOT)));
    if (!seen.length) {
      context.fillStyle = palette.muted;
      context.textAlign = "center";
      context.fillText("No trades yet", width / 2, height / 2);
      this.#onHover(null);
      return;
    }
    const high = Math.max(...seen.map((candle) => candle.high));
    const low = Math.min(...seen.map((candle) => candle.low));
    const margin = (high - low || high * 0.001) * 0.08;
    const top = high + margin;
    const span = top - (low - margin);
    const priceHeight = plot.height * (1 - VOLUME_SHARE);
    const y = (price) => TOP + ((top - price) / span) * priceHeight;
    const x = (index) => plot.width - (seen.length - index - 0.5) * SLOT;

    const last = y(seen.at(-1).close);
    this.#grid(context, palette, plot, { top, span, y, last }, seen, x);
    this.#bars(context, palette, seen, x, y, plot);
    this.#last(context, palette, plot, seen.at(-1), y);
    const under = this.#pointer === null ? null : Math.floor((this.#pointer - (plot.width - seen.length * SLOT)) / SLOT);
    if (under !== null && seen[under]) {
      context.strokeStyle = palette.muted;
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(x(under), TOP);
      context.lineTo(x(under), TOP + plot.height);
      context.stroke();
      context.setLineDash([]);
    }
    this.#onHover(seen[under] ?? seen.at(-1));
  }

  #grid(context, palette, plot, { top, span, y, last }, seen, x) {
    context.fillStyle = palette.muted;
    context.strokeStyle = palette.line;
    context.lineWidth = 1;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const step = niceStep(span, 5);
    for (let price = Math.floor(top / step) * step; price > top - span; price -= step) {
      const at = Math.round(y(price)) + 0.5;
      context.beginPath();
      context.moveTo(0, at);
      context.lineTo(plot.width, at);
      context.stroke();
      if (Math.abs(at - last) > 14) context.fillText(this.#label(price), plot.width + 8, at);
    }
    context.textAlign = "center";
    const every = Math.ceil(90 / SLOT);
    for (let index = seen.length - 1 - Math.floor(every / 2); index >= 2; index -= every) {
      const time = new Date(seen[index].time);
      const text = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
      context.fillText(text, x(index), TOP + plot.height + 13);
    }
  }

  #bars(context, palette, seen, x, y, plot) {
    const most = Math.max(...seen.map((candle) => candle.volume)) || 1;
    const floor = TOP + plot.height;
    seen.forEach((candle, index) => {
      const colour = candle.close >= candle.open ? palette.up : palette.down;
      const middle = Math.round(x(index)) + 0.5;
      context.fillStyle = context.strokeStyle = colour;
      context.globalAlpha = 0.28;
      const volume = (candle.volume / most) * plot.height * VOLUME_SHARE;
      context.fillRect(middle - 3, floor - volume, 6, volume);
      context.globalAlpha = 1;
      context.beginPath();
      context.moveTo(middle, y(candle.high));
      context.lineTo(middle, y(candle.low));
      context.stroke();
      const upper = y(Math.max(candle.open, candle.close));
      const lower = y(Math.min(candle.open, candle.close));
      context.fillRect(middle - 3, upper, 6, Math.max(1, lower - upper));
    });
  }

  #last(context, palette, plot, candle, y) {
    const at = Math.round(y(candle.close)) + 0.5;
    const colour = candle.close >= candle.open ? palette.up : palette.down;
    context.strokeStyle = colour;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(0, at);
    context.lineTo(plot.width, at);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(plot.width + 2, at - 9, RIGHT - 6, 18, 4);
    context.fill();
    context.fillStyle = "#0b0e14";
    context.textAlign = "left";
    context.fillText(this.#label(candle.close), plot.width + 8, at);
  }

  #label(price) {
    return price.toLocaleString("en-US", {
      minimumFractionDigits: this.#decimals,
      maximumFractionDigits: this.#decimals,
    });
  }
}
