import { SequenceTracker } from "./sequence.js";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8000;
const PING_MS = 10000;
const SILENCE_MS = 25000;

/** Milliseconds before attempt n (from 0): doubles, at most 8 s, with full jitter above the first quarter. */
export function pauseBefore(attempt, random = Math.random()) {
  const ceiling = Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS);
  return ceiling * (0.25 + 0.75 * random);
}

/**
 * Live prices over a WebSocket. Reconnects by itself; when a sequence number is missing it subscribes to the symbol
 * again, which brings a snapshot, and passes nothing on until then.
 *
 * Events: "state" (detail: "connecting" | "live" | "offline"), "ticks" (detail: list of ticks, newest last),
 * "resync" (detail: {symbol, reason}).
 */
export class PriceStream extends EventTarget {
  #url;
  #socket = null;
  #attempt = 0;
  #sequence = new SequenceTracker();
  #resyncing = new Set();
  #heardAt = 0;
  #timer = null;

  constructor(url) {
    super();
    this.#url = url;
    addEventListener("online", () => this.#connectNow());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !this.#socket) this.#connectNow();
    });
    setInterval(() => this.#watch(), PING_MS);
  }

  connect() {
    this.#emit("state", "connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#heardAt = performance.now();
    this.#resyncing.clear();
    socket.onopen = () => this.#send({ op: "subscribe", symbols: "*" });
    socket.onmessage = ({ data }) => {
      this.#heardAt = performance.now();
      this.#receive(JSON.parse(data));
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lost();
    };
  }

  #lost() {
    this.#socket = null;
    this.#emit("state", "offline");
    this.#timer = setTimeout(() => this.connect(), pauseBefore(this.#attempt++));
  }

  #connectNow() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.#attempt = 0;
    this.connect();
  }

  /** A socket that says nothing for long, or never opens, is dead, even if nobody closed it. */
  #watch() {
    const socket = this.#socket;
    if (!socket) return;
    if (performance.now() - this.#heardAt > SILENCE_MS) {
      socket.onclose = null;
      socket.close();
      this.#lost();
    } else {
      this.#send({ op: "ping" });
    }
  }

  #receive(message) {
    if (message.type === "tick") this.#tick(message);
    else if (message.type === "snapshot") this.#snapshot(message);
    else if (message.type === "error") console.warn("price stream:", message.code, message.message);
  }

  #snapshot({ ticks }) {
    for (const tick of ticks) {
      this.#sequence.reset(tick);
      this.#resyncing.delete(tick.symbol);
    }
    this.#attempt = 0;
    this.#emit("state", "live");
    this.#emit("ticks", ticks);
  }

  #tick(tick) {
    if (this.#resyncing.has(tick.symbol)) return;
    const verdict = this.#sequence.observe(tick);
    if (verdict === "next" || verdict === "first") {
      this.#emit("ticks", [tick]);
    } else if (verdict !== "repeated") {
      this.#resyncing.add(tick.symbol);
      this.#emit("resync", { symbol: tick.symbol, reason: verdict });
      this.#send({ op: "subscribe", symbols: [tick.symbol] });
    }
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
