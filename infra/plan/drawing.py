"""Boxes in nested groups with flows between them, drawn as SVG.

Everything stands in one column; flows run in a gutter to its right. All flows to one box on one port share a
line, which ends in an arrow with the port. Every end has a place of its own, so labels cannot meet.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

_PAD, _GAP, _TITLE, _SLOT, _BOX, _LINE, _CHANNEL, _MARGIN = 12, 8, 26, 15, 34, 15, 13, 16
_MIN_WIDTH, _MAX_WIDTH = 560, 1000
_LABEL, _DETAIL, _PORT = 7.3, 6.4, 6.2
"""Widths of a character in pixels, on the wide side, in the fonts of the style below."""

_COLOURS = ("#2f6fde", "#c2600c", "#12855a", "#cc3340", "#7a4fd0", "#0b8199", "#b52d77", "#5f7d10")
"""Of the lines; each has enough contrast on white and on the dark background."""


@dataclass(frozen=True)
class Box:
    """One thing that runs."""

    id: str
    label: str
    detail: str = ""
    span: tuple[int, int] | None = None
    """First and last column it stretches over; all when None."""


@dataclass(frozen=True)
class Cell:
    """One subnet, among those beside it."""

    label: str
    detail: str
    lines: tuple[str, ...] = ()
    """What is in it and in no other."""


@dataclass(frozen=True)
class Cells:
    """Subnets side by side; boxes below them in the same group stretch over their columns."""

    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """A frame with a title around what belongs together."""

    title: str
    children: tuple["Box | Cells | Group", ...]


@dataclass(frozen=True)
class Flow:
    """Who opens connections to a box, on one port."""

    target: str
    """Id of a box."""
    label: str
    """Port, or what is sent."""
    sources: tuple[str, ...] = ()
    """Ids of boxes; none when the label says who."""


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn."""

    title: str
    children: tuple[Box | Cells | Group, ...]
    flows: tuple[Flow, ...]


@dataclass
class _Canvas:
    width: float
    """Right edge of the outermost column."""
    columns: int
    ends: dict[str, list[int]]
    """Flows that begin or end at each box, in the order of their places."""
    parts: list[str] = field(default_factory=list)
    places: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """Where flow n touches a box: right edge and height."""


def render(drawing: Drawing) -> str:
    """An SVG document that needs nothing else; it follows the reader's light or dark theme."""
    ends: dict[str, list[int]] = defaultdict(list)
    for number, flow in enumerate(drawing.flows):
        for box in (flow.target, *flow.sources):
            ends[box].append(number)
    width = min(_MAX_WIDTH, max([_MIN_WIDTH, *_widths(drawing.children, 0)])) + 2 * _MARGIN
    canvas = _Canvas(width - _MARGIN, 1, ends)
    bottom = _children(canvas, drawing.children, _MARGIN, canvas.width, _MARGIN + _TITLE)
    channels = _channels(drawing.flows, canvas)
    ports = max((len(flow.label) for flow in drawing.flows), default=0) * _PORT + 2 * _PAD
    for number, flow in enumerate(drawing.flows):
        canvas.parts += _flow(flow, number, canvas, canvas.width + ports + channels[number] * _CHANNEL)
    right = canvas.width + _MARGIN
    if drawing.flows:
        right += ports + (max(channels) + 1) * _CHANNEL
    heading = f'<text class="t" x="{_MARGIN}" y="{_MARGIN + 12}">{escape(drawing.title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" role="img" viewBox="0 0 {right:.0f} '
        f'{bottom + _MARGIN:.0f}" width="{right:.0f}" height="{bottom + _MARGIN:.0f}">'
        f"<title>{escape(drawing.title)}</title><style>{_STYLE}</style>"
        f'<rect class="paper" width="100%" height="100%"/>{heading}{"".join(canvas.parts)}</svg>\n'
    )


_STYLE = (
    ".diagram{--ink:#1c2430;--soft:#56606e;--line:#c3cad4;--box:#f4f6f9;--paper:#fff;"
    "font:12px system-ui,'DejaVu Sans',Verdana,sans-serif}"
    "@media(prefers-color-scheme:dark){.diagram{--ink:#e6eaf0;--soft:#a3adba;--line:#454f5c;--box:#262d36;"
    "--paper:#171c22}}"
    ".diagram .paper{fill:var(--paper)}.diagram .group{fill:none;stroke:var(--line);stroke-width:1.2}"
    ".diagram .box{fill:var(--box);stroke:var(--line)}.diagram text{fill:var(--ink)}"
    ".diagram .t{font-size:14px;font-weight:600}.diagram .g{font-weight:600;fill:var(--soft)}"
    ".diagram .l{font-weight:600}.diagram .d,.diagram .p{font-size:11px;fill:var(--soft)}"
    ".diagram .p{font-size:10.5px;fill:var(--ink)}.diagram .f{fill:none;stroke-width:1.4}"
)


def _widths(children: Iterable[Box | Cells | Group], depth: int) -> Iterator[float]:
    """Widths that the children want, with the frames around them."""
    frames = 2 * _PAD * (depth + 1)
    for child in children:
        if isinstance(child, Group):
            yield len(child.title) * _LABEL + frames
            yield from _widths(child.children, depth + 1)
        elif isinstance(child, Cells):
            texts = [text for cell in child.cells for text in (cell.label, cell.detail, *cell.lines)]
            yield len(child.cells) * (max(map(len, texts), default=0) * _LABEL + 2 * _PAD) + frames
        else:
            yield len(child.label) * _LABEL + len(child.detail) * _DETAIL + 3 * _PAD + frames


def _children(
    canvas: _Canvas, children: Sequence[Box | Cells | Group], left: float, right: float, top: float
) -> float:
    columns = max((len(child.cells) for child in children if isinstance(child, Cells)), default=1)
    for child in children:
        if isinstance(child, Group):
            top = _group(canvas, child, left, right, top)
        elif isinstance(child, Cells):
            top = _cells(canvas, child, left, right, top)
        else:
            first, last = child.span or (0, columns - 1)
            step = (right - left + _GAP) / columns
            top = _box(canvas, child, left + first * step, left + (last + 1) * step - _GAP, top)
        top += _GAP
    return top - _GAP


def _group(canvas: _Canvas, group: Group, left: float, right: float, top: float) -> float:
    place = len(canvas.parts)
    bottom = _children(canvas, group.children, left + _PAD, right - _PAD, top + _TITLE) + _PAD
    frame = _rect("group", left, top, right - left, bottom - top) + (
        f'<text class="g" x="{left + _PAD:.1f}" y="{top + 17:.1f}">{escape(group.title)}</text>'
    )
    canvas.parts.insert(place, frame)
    return bottom


def _cells(canvas: _Canvas, row: Cells, left: float, right: float, top: float) -> float:
    step = (right - left + _GAP) / max(1, len(row.cells))
    height = 2 * _LINE + 12 + _LINE * max((len(cell.lines) for cell in row.cells), default=0)
    for index, cell in enumerate(row.cells):
        x, width = left + index * step, step - _GAP
        canvas.parts.append(_rect("box", x, top, width, height))
        for line, text in enumerate((cell.label, cell.detail, *cell.lines)):
            kind, y = "d" if line else "l", top + 18 + line * _LINE
            shown = _cut(text, width - 20, _LABEL)
            canvas.parts.append(f'<text class="{kind}" x="{x + 10:.1f}" y="{y:.1f}">{shown}</text>')
    return top + height


def _box(canvas: _Canvas, box: Box, left: float, right: float, top: float) -> float:
    ends = canvas.ends.get(box.id, [])
    height = max(_BOX, _SLOT * len(ends) + 8)
    for place, number in enumerate(ends):
        canvas.places[box.id, number] = (right, top + height - 6 - _SLOT * (len(ends) - 1 - place))
    room = right - left - 3 * _PAD - len(box.label) * _LABEL
    canvas.parts.append(
        f"<g><title>{escape(f'{box.label} {box.detail}'.strip())}</title>"
        f"{_rect('box', left, top, right - left, height)}"
        f'<text x="{left + _PAD:.1f}" y="{top + 21:.1f}"><tspan class="l">{escape(box.label)}</tspan>'
        f'<tspan class="d" dx="10">{_cut(box.detail, room, _DETAIL)}</tspan></text></g>'
    )
    return top + height


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size} rx="5"/>'


def _cut(text: str, room: float, width: float) -> str:
    limit = max(1, int(room / width))
    return escape(text if len(text) <= limit else text[: limit - 1] + "…")


def _channels(flows: Sequence[Flow], canvas: _Canvas) -> list[int]:
    """A vertical for each flow, such that no two share one where they would touch."""
    heights = []
    for number, flow in enumerate(flows):
        ys = [canvas.places[box, number][1] for box in (flow.target, *flow.sources)]
        heights.append((min(ys), max(ys)))
    free: list[float] = []
    chosen = [0] * len(flows)
    for number in sorted(range(len(flows)), key=lambda index: heights[index]):
        low, high = heights[number]
        channel = next((index for index, until in enumerate(free) if until + 4 < low), len(free))
        free[channel : channel + 1] = [high]
        chosen[number] = channel
    return chosen


def _flow(flow: Flow, number: int, canvas: _Canvas, x: float) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    right, y = canvas.places[flow.target, number]
    ends = [canvas.places[source, number] for source in flow.sources]
    path = f"M{x:.1f} {y:.1f}H{right + 7:.1f}"
    if ends:
        heights = [y, *(height for _, height in ends)]
        path += f"M{x:.1f} {min(heights):.1f}V{max(heights):.1f}"
        path += "".join(f"M{edge:.1f} {height:.1f}H{x:.1f}" for edge, height in ends)
    arrow = f"M{right + 1:.1f} {y:.1f}l8 -4v8z"
    yield f'<path class="f" stroke="{colour}" d="{path}"/><path fill="{colour}" d="{arrow}"/>'
    yield from (f'<circle cx="{edge:.1f}" cy="{h:.1f}" r="2.6" fill="{colour}"/>' for edge, h in ends)
    yield f'<text class="p" x="{canvas.width + _PAD:.1f}" y="{y - 3:.1f}">{escape(flow.label)}</text>'
