"""Monthly cost by component as a bar chart in SVG."""

from html import escape

from infra.cost import cents
from infra.plan.report import CostRow

_ROW, _LEFT, _BARS, _RIGHT = 24, 170, 420, 190


def svg(rows: list[CostRow]) -> str:
    """One bar for each component; what it was before is a line across. Empty without rows."""
    if not rows:
        return ""
    before = [row.usd - row.delta_usd if row.delta_usd is not None else row.usd for row in rows]
    most = max([*(row.usd for row in rows), *before]) or 1
    height = _ROW * len(rows) + 8
    parts = []
    for number, (row, old) in enumerate(zip(rows, before, strict=True)):
        y = 4 + number * _ROW
        width = float(row.usd / most) * _BARS
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(row.component)}</text>'
            f'<rect class="bar" x="{_LEFT}" y="{y + 3}" width="{max(width, 1):.1f}" height="{_ROW - 8}"/>'
        )
        amount = f"{cents(row.usd):,}"
        if row.delta_usd is not None:
            x = _LEFT + float(old / most) * _BARS
            parts.append(f'<path class="was" d="M{x:.1f} {y}V{y + _ROW - 2}"/>')
            amount += f" ({cents(row.delta_usd):+,})"
        right = _LEFT + float(max(row.usd, old) / most) * _BARS
        parts.append(f'<text x="{right + 8:.1f}" y="{y + 15}">{amount}</text>')
    whole = _LEFT + _BARS + _RIGHT
    size = f'viewBox="0 0 {whole} {height}" width="{whole}" height="{height}"'
    parts.insert(0, "<title>Dollars a month by component</title>")
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" {size}>{"".join(parts)}</svg>'
