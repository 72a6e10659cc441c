"""A result as one HTML page: nothing to load, no scripts."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 32, 28, 40
_STYLE = """
:root { color-scheme: light dark; --grid: #8884; --ok: #2e7d32;
  --line: #1565c0; --second: #c77700; --third: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --line: #7ab8ff; --second: #ffb74d; --third: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid var(--grid); }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
.grid { stroke: var(--grid); } .plot { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.s0 { stroke: var(--line); } .s1 { stroke: var(--second); } .s2 { stroke: var(--third); }
.k0 { color: var(--line); } .k1 { color: var(--second); } .k2 { color: var(--third); }
.row { display: block; overflow-x: auto; } .row td, .row th { padding-right: 2rem; }
.row th { font-weight: 400; opacity: .75; }
.row td { font-size: 1.15rem; font-weight: 600; }
.verdict { font-weight: 600; border-left: 4px solid var(--ok); padding-left: .7rem; }
.verdict::first-letter { text-transform: uppercase; }
.verdict.broken { border-color: var(--third); } .verdict p { margin: 0; font-weight: 400; }
"""
_NAMES = {"p999": "p99.9", "p9999": "p99.99"}
_Points = Sequence[tuple[float, float]]


def html(document: dict[str, Any]) -> str:
    """The page of a result as `result` makes it."""
    title = f"Load test: {document['kind']} {document['target']}"
    reasons = "".join(f"<p>{escape(reason)}</p>" for reason in document["broken"])
    told = "verdict broken" if document["broken"] else "verdict"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="{told}">{escape(verdict(document))}{reasons}</div>',
        _row("Latency in ms", document["latency_ms"]),
    ]
    if document["percentiles"]:
        parts += ["<h2>Latency by percentile</h2>", _by_percentile(document["percentiles"])]
        parts += ["<h2>Latency over time</h2>", _over_time(document["over_time"])]
    parts.append(_table("Figures", document["figures"]))
    for name, heading in (
        ("statuses", "Answers by status"),
        ("failures", "Failures"),
        ("connect_ms", "Connecting, in ms"),
        ("sender_lag_ms", "Lag of the load itself, in ms"),
        ("settings", "Settings"),
        ("machine", "Machine of the load"),
    ):
        if document.get(name):
            parts.append((_row if name.endswith("_ms") else _table)(heading, document[name]))
    parts.append(f"<p>Measured {escape(document['measured'])}, {document['seconds']:g} s.</p>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def verdict(document: dict[str, Any]) -> str:
    """One line: whether the run came to its end and kept to its limits."""
    told = "limits not kept" if document["broken"] else "limits kept"
    return told if document["complete"] else f"incomplete: ended early; until then {told}"


def lines(document: dict[str, Any]) -> list[str]:
    """The result in a few lines of text."""
    latency = document["latency_ms"]
    percentiles = ", ".join(
        f"{_NAMES.get(name, name)} {_shown(latency[name])}" for name in ("p50", "p90", "p99", "p999", "max")
    )
    figures = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in document["figures"].items())
    return [
        f"{document['kind']} {document['target']}: {verdict(document)}",
        *document["broken"],
        f"latency in ms of {latency['count']}: {percentiles}",
        figures,
    ]


def _table(heading: str, values: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name).replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<h2>{escape(heading)}</h2><table>{rows}</table>"


def _row(heading: str, values: dict[str, Any]) -> str:
    heads = "".join(f"<th>{escape(_NAMES.get(name, name))}</th>" for name in values)
    cells = "".join(f"<td>{escape(_shown(value))}</td>" for value in values.values())
    return f'<h2>{escape(heading)}</h2><table class="row"><tr>{heads}</tr><tr>{cells}</tr></table>'


def _shown(value: Any) -> str:
    match value:
        case None | [] | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:,.10g}"
        case dict():
            return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
        case list() | tuple():
            return ", ".join(map(_shown, value))
        case _:
            return str(value)


def _by_percentile(points: _Points) -> str:
    shown = [(-math.log10(1 - percentile / 100), ms) for percentile, ms in points]
    ticks = [(float(nines), _nines(nines)) for nines in range(math.ceil(shown[-1][0]) + 1)]
    return _plot([("latency", shown)], ticks, "percentile")


def _nines(nines: int) -> str:
    return f"{100 * (1 - 10**-nines):.{max(nines - 2, 0)}f} %"


def _over_time(slices: Sequence[dict[str, float]]) -> str:
    series = [(name, [(part["at_s"], part[name]) for part in slices]) for name in ("p50", "p99", "max")]
    step = _step(max(slices[-1]["at_s"], 0.1))
    ticks = [(step * n, f"{step * n:g}") for n in range(math.ceil(slices[-1]["at_s"] / step) + 1)]
    return _plot(series, ticks, "seconds since the beginning")


def _step(reach: float, parts: int = 6) -> float:
    """A round distance of grid lines: 1, 2 or 5 times a power of ten."""
    least: float = reach / parts
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _plot(series: Sequence[tuple[str, _Points]], ticks: Sequence[tuple[float, str]], label: str) -> str:
    right = max(ticks[-1][0], 1e-9)
    step = _step(max(*(ms for _, points in series for _, ms in points), 0.01))
    top = step * math.ceil(max(ms for _, points in series for _, ms in points) / step) or step

    def x(value: float) -> float:
        return round(_LEFT + value / right * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [
        f'<line class="grid" x1="{x(at)}" x2="{x(at)}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text x="{x(at)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{name}</text>'
        for at, name in ticks
    ]
    parts += [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(at)}" y2="{y(at)}"/>'
        f'<text x="{_LEFT - 6}" y="{y(at) + 4}" text-anchor="end">{at:g}</text>'
        for at in (step * n for n in range(round(top / step) + 1))
    ]
    parts.append(f'<text x="{_LEFT - 6}" y="{_TOP - 13}" text-anchor="end">ms</text>')
    parts += [_line(number, points, x, y) for number, (_, points) in enumerate(series)]
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2:g}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(label)}</text>'
    )
    legend = " ".join(f'<span class="k{n}">— {escape(name)}</span>' for n, (name, _) in enumerate(series))
    named = f"<p>{legend}</p>" if len(series) > 1 else ""
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="latency in milliseconds by {escape(label)}">{"".join(parts)}</svg>'
        f"{named}"
    )


def _line(number: int, points: _Points, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    path = " ".join(f"{x(at)},{y(ms)}" for at, ms in points)
    return f'<polyline class="plot s{number}" points="{path}"/>'
