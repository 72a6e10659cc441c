const grouped = new Map();

/** A decimal string with thousands separated; keeps exactly the decimals it came with. */
export function price(text) {
  const decimals = (text.split(".")[1] ?? "").length;
  if (!grouped.has(decimals)) {
    grouped.set(
      decimals,
      new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }),
    );
  }
  return grouped.get(decimals).format(Number(text));
}

const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });

/** A quantity, shortened: 12.3K. */
export function quantity(text) {
  return compact.format(Number(text));
}

/** Change since the reference in percent, as a number. */
export function changePercent(tick) {
  return (Number(tick.price) / Number(tick.reference) - 1) * 100;
}

/** Sign by arrow and colour class, so that colour is not the only carrier. */
export function change(percent) {
  const shown = Math.abs(percent).toFixed(2);
  if (shown === "0.00") return { text: "0.00 %", className: "change" };
  const up = percent > 0;
  return { text: `${up ? "▲" : "▼"} ${shown} %`, className: `change ${up ? "up" : "down"}` };
}
