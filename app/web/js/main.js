import { Detail } from "./detail.js";
import { PriceStream } from "./stream.js";
import { MarketTable } from "./table.js";

const LABELS = { connecting: "Connecting", live: "Live", offline: "Reconnecting" };
const SESSIONS_MS = 30000;

const $ = (id) => document.getElementById(id);
const latest = new Map();
const instruments = new Map();
const detail = new Detail($("detail"));
const table = new MarketTable($("markets"), (symbol) => {
  location.hash = symbol;
});

async function getJson(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** Ask again, with growing pauses, until there is an answer. */
async function persistently(path) {
  for (let pause = 300; ; pause = Math.min(pause * 2, 5000)) {
    try {
      return await getJson(path);
    } catch {
      await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random())));
    }
  }
}

/** What the address asks for; a broken address asks for nothing. */
function wanted() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function select() {
  const instrument = instruments.get(wanted()) ?? instruments.values().next().value;
  table.select(instrument.symbol);
  detail.show(instrument, latest.get(instrument.symbol));
}

function take(ticks) {
  for (const tick of ticks) {
    latest.set(tick.symbol, tick);
    table.update(tick);
    if (tick.symbol === detail.symbol) detail.update(tick);
  }
}

function showState(state) {
  const badge = $("connection");
  if (badge.dataset.state === state) return;
  const interrupted = badge.dataset.state === "connecting" && state === "live" && latest.size > 0;
  badge.dataset.state = state;
  badge.querySelector(".label").textContent = LABELS[state];
  document.body.dataset.stale = String(state !== "live" && latest.size > 0);
  if (interrupted) detail.reload();
}

async function loadTrends() {
  for (const symbol of instruments.keys()) {
    const page = await getJson(`/api/market/candles/${encodeURIComponent(symbol)}?interval=5m&limit=48`).catch(() => null);
    if (page) table.history(symbol, page.candles);
  }
}

async function refreshSessions() {
  const fresh = await getJson("/api/market/instruments").catch(() => []);
  for (const { symbol, open } of fresh) table.setOpen(symbol, open);
}

function tickClock() {
  $("clock").textContent = `${new Date().toISOString().slice(11, 19)} UTC`;
}

for (const button of document.querySelectorAll("[data-class]")) {
  button.addEventListener("click", () => {
    table.filter(button.dataset.class);
    for (const each of document.querySelectorAll("[data-class]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
  });
}

const stream = new PriceStream(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
stream.addEventListener("state", ({ detail: state }) => showState(state));
stream.addEventListener("ticks", ({ detail: ticks }) => take(ticks));
stream.addEventListener("resync", ({ detail: { symbol } }) => {
  document.body.dataset.resyncs = String(Number(document.body.dataset.resyncs ?? 0) + 1);
  if (symbol === detail.symbol) detail.reload();
});

tickClock();
setInterval(tickClock, 1000);
stream.connect();

const found = await persistently("/api/market/instruments");
for (const instrument of found) instruments.set(instrument.symbol, instrument);
table.fill(found);
$("empty").hidden = true;
for (const tick of latest.values()) table.update(tick);
addEventListener("hashchange", select);
select();
loadTrends();
setInterval(refreshSessions, SESSIONS_MS);
