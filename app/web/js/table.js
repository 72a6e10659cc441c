import * as format from "./format.js";

const TREND_POINTS = 48;
const TREND_MS = 300000;
const SVG = "http://www.w3.org/2000/svg";

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The table of instruments; changes to many rows are drawn together, once a frame. */
export class MarketTable {
  #rows = new Map();
  #dirty = new Map();
  #onSelect;
  #body;

  constructor(table, onSelect) {
    this.#body = table.tBodies[0];
    this.#onSelect = onSelect;
  }

  /** One row for each instrument. */
  fill(instruments) {
    this.#body.replaceChildren(...instruments.map((instrument) => this.#row(instrument)));
  }

  /** Show only one asset class; an empty one shows all. */
  filter(assetClass) {
    for (const { row, instrument } of this.#rows.values()) {
      row.hidden = Boolean(assetClass) && instrument.asset_class !== assetClass;
    }
  }

  select(symbol) {
    for (const [each, { row }] of this.#rows) row.setAttribute("aria-selected", String(each === symbol));
  }

  /** Five-minute candles of the past, oldest first, for the trend line. */
  history(symbol, candles) {
    const entry = this.#rows.get(symbol);
    entry.trend = candles.map(({ start, close }) => ({ time: Date.parse(start), price: Number(close) }));
    this.#schedule(symbol, entry.tick);
  }

  update(tick) {
    if (this.#rows.has(tick.symbol)) this.#schedule(tick.symbol, tick);
  }

  setOpen(symbol, open) {
    const entry = this.#rows.get(symbol);
    if (entry) entry.shut.hidden = open;
  }

  #schedule(symbol, tick) {
    if (this.#dirty.size === 0) requestAnimationFrame(() => this.#draw());
    this.#dirty.set(symbol, tick);
  }

  #draw() {
    for (const [symbol, tick] of this.#dirty) {
      const entry = this.#rows.get(symbol);
      if (tick) this.#drawTick(entry, tick);
      this.#drawTrend(entry);
    }
    this.#dirty.clear();
  }

  #drawTick(entry, tick) {
    const before = entry.tick;
    entry.tick = tick;
    entry.price.textContent = format.price(tick.price);
    entry.high.textContent = format.price(tick.high);
    entry.low.textContent = format.price(tick.low);
    const shown = format.change(format.changePercent(tick));
    entry.change.textContent = shown.text;
    entry.change.className = shown.className;
    entry.row.dataset.seq = tick.seq;
    if (before === tick) return;
    const point = { time: tick.time - (tick.time % TREND_MS), price: Number(tick.price) };
    if (entry.trend.at(-1)?.time >= point.time) entry.trend.pop();
    entry.trend.push(point);
    if (entry.trend.length > TREND_POINTS) entry.trend.shift();
    if (before && before.price !== tick.price) {
      const flash = Number(tick.price) > Number(before.price) ? "flash-up" : "flash-down";
      entry.price.classList.remove("flash-up", "flash-down");
      for (const running of entry.price.getAnimations()) running.cancel();
      entry.price.classList.add(flash);
    }
  }

  #drawTrend({ trend, line, figure }) {
    if (trend.length < 2) return;
    const prices = trend.map(({ price }) => price);
    const low = Math.min(...prices);
    const span = Math.max(...prices) - low || 1;
    const step = 108 / (prices.length - 1);
    line.setAttribute(
      "points",
      prices.map((value, at) => `${(at * step).toFixed(1)},${(27 - ((value - low) / span) * 24).toFixed(1)}`).join(" "),
    );
    figure.setAttribute("class", prices.at(-1) >= prices[0] ? "up" : "down");
  }

  #row(instrument) {
    const row = element("tr");
    row.dataset.symbol = instrument.symbol;
    row.setAttribute("aria-selected", "false");
    const button = element("button", "instrument");
    button.type = "button";
    const small = element("small");
    const shut = element("span", "shut", "closed");
    shut.hidden = instrument.open;
    small.append(element("span", "", instrument.name), shut);
    button.append(element("strong", "", instrument.symbol), small);
    const price = element("span", "price", "–");
    const change = element("span", "change", "–");
    const figure = document.createElementNS(SVG, "svg");
    figure.setAttribute("viewBox", "0 0 108 30");
    figure.setAttribute("preserveAspectRatio", "none");
    figure.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(SVG, "polyline");
    figure.append(line);
    const cells = {
      first: element("td"),
      price: element("td", "number"),
      change: element("td", "number"),
      trend: element("td", "trend"),
      high: element("td", "number wide muted", "–"),
      low: element("td", "number wide muted", "–"),
    };
    price.dataset.field = "price";
    cells.first.append(button);
    cells.price.append(price);
    cells.change.append(change);
    cells.trend.append(figure);
    row.append(...Object.values(cells));
    row.addEventListener("click", () => this.#onSelect(instrument.symbol));
    this.#rows.set(instrument.symbol, {
      row,
      instrument,
      shut,
      price,
      change,
      line,
      figure,
      high: cells.high,
      low: cells.low,
      trend: [],
      tick: null,
    });
    return row;
  }
}
