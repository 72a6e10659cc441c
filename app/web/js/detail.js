import { CandleChart } from "./chart.js";
import * as format from "./format.js";

const SECONDS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600 };
const LIMIT = 200;
const CATCH_UP_MS = 1000;

/** The panel of one instrument: candles that go on with the live ticks, and its figures. */
export class Detail {
  #root;
  #chart;
  #instrument = null;
  #interval = "1m";
  #candles = [];
  #asked = 0;
  #catchUp = null;
  #tick = null;

  constructor(root) {
    this.#root = root;
    this.#chart = new CandleChart(root.querySelector("#chart"), (candle) => this.#legend(candle));
    for (const button of root.querySelectorAll("[data-interval]")) {
      button.addEventListener("click", () => {
        this.#interval = button.dataset.interval;
        for (const each of root.querySelectorAll("[data-interval]")) {
          each.setAttribute("aria-pressed", String(each === button));
        }
        this.reload();
      });
    }
  }

  get symbol() {
    return this.#instrument?.symbol;
  }

  show(instrument, tick) {
    this.#instrument = instrument;
    this.#tick = null;
    this.#root.hidden = false;
    this.#text("detail-symbol", instrument.symbol);
    this.#text("detail-name", instrument.name);
    this.#text("detail-price", "–");
    this.#text("detail-change", "");
    this.#candles = [];
    this.#draw();
    this.reload();
    if (tick) this.update(tick);
  }

  /** Fetch the candles anew: after a choice, and after the stream was interrupted. */
  async reload() {
    if (!this.#instrument) return;
    const asked = ++this.#asked;
    const symbol = encodeURIComponent(this.#instrument.symbol);
    const found = await fetch(`/api/market/candles/${symbol}?interval=${this.#interval}&limit=${LIMIT}`)
      .then((answer) => (answer.ok ? answer.json() : null))
      .catch(() => null);
    if (asked !== this.#asked || !found) return;
    this.#candles = found.candles.map(({ start, open, high, low, close, volume }) => ({
      time: Date.parse(start),
      open: Number(open),
      high: Number(high),
      low: Number(low),
      close: Number(close),
      volume: Number(volume),
    }));
    this.#draw();
  }

  update(tick) {
    const before = this.#tick;
    this.#tick = tick;
    this.#text("detail-price", format.price(tick.price));
    const shown = format.change(format.changePercent(tick));
    const change = this.#text("detail-change", shown.text);
    change.className = shown.className;
    this.#stats(tick);
    if (before) this.#extend(tick);
  }

  #extend(tick) {
    const price = Number(tick.price);
    const length = SECONDS[this.#interval] * 1000;
    const start = tick.time - (tick.time % length);
    const last = this.#candles.at(-1);
    if (!last || start > last.time + length) this.#fetchMissing();
    if (last && start <= last.time) {
      last.high = Math.max(last.high, price);
      last.low = Math.min(last.low, price);
      last.close = price;
      last.volume += Number(tick.size);
    } else {
      this.#candles.push({ time: start, open: price, high: price, low: price, close: price, volume: Number(tick.size) });
      if (this.#candles.length > LIMIT) this.#candles.shift();
    }
    this.#draw();
  }

  /** Candles are stored a little after the ticks went out: what is missing between is asked for again, until it is there. */
  #fetchMissing() {
    this.#catchUp ??= setTimeout(() => {
      this.#catchUp = null;
      this.reload();
    }, CATCH_UP_MS);
  }

  #draw() {
    this.#chart.show(this.#candles, this.#decimals());
  }

  #decimals() {
    return (this.#instrument.tick_size.split(".")[1] ?? "").length;
  }

  #stats(tick) {
    const figures = {
      Bid: format.price(tick.bid),
      Ask: format.price(tick.ask),
      Open: format.price(tick.open),
      High: format.price(tick.high),
      Low: format.price(tick.low),
      Volume: format.quantity(tick.volume),
    };
    const list = this.#root.querySelector("#stats");
    if (!list.children.length) {
      for (const name of Object.keys(figures)) {
        const group = document.createElement("div");
        group.append(document.createElement("dt"), document.createElement("dd"));
        group.firstChild.textContent = name;
        list.append(group);
      }
    }
    Object.values(figures).forEach((value, index) => {
      list.children[index].lastChild.textContent = value;
    });
  }

  #legend(candle) {
    const digits = this.#instrument ? this.#decimals() : 2;
    const show = (value) => value.toFixed(digits);
    const text = candle
      ? `O ${show(candle.open)}   H ${show(candle.high)}   L ${show(candle.low)}   C ${show(candle.close)}`
      : "";
    this.#text("legend", text);
  }

  #text(id, text) {
    const found = this.#root.querySelector(`#${id}`);
    found.textContent = text;
    return found;
  }
}
