"""The account statement: what is on it and how it looks as a PDF."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import PurePosixPath

from fpdf import FPDF
from fpdf.fonts import FontFace
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

_PRINTABLE = "latin-1"
"""What the PDF's built-in fonts can show; anything else is printed as a question mark."""


class Entry(BaseModel):
    """One movement; amounts are minor units of the statement's currency."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    text: str = Field(min_length=1, max_length=120)
    amount: int
    """Negative when money went out."""


class Statement(BaseModel):
    """A request for a statement, with all that is printed on it."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    """The same request keeps it, however often it is sent."""
    user: str = Field(min_length=1, max_length=120)
    account: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    exponent: int = Field(default=2, ge=0, le=8)
    """Decimal places of a minor unit."""
    begin: date
    end: date
    opening: int
    """Balance before the first entry."""
    entries: list[Entry] = Field(max_length=5000)

    @model_validator(mode="after")
    def _is_a_period(self) -> "Statement":
        if self.end < self.begin:
            raise ValueError(f"end {self.end} is before begin {self.begin}")
        return self

    @property
    def closing(self) -> int:
        """Balance after the last entry."""
        return self.opening + sum(entry.amount for entry in self.entries)

    @property
    def path(self) -> str:
        """Key of the finished PDF in the bucket."""
        return str(PurePosixPath("statements", self.account, f"{self.end}-{self.id}.pdf"))

    def money(self, amount: int) -> str:
        """Minor units as a decimal amount."""
        return f"{Decimal(amount).scaleb(-self.exponent):,.{self.exponent}f}"


def render(statement: Statement) -> bytes:
    """The statement as a PDF; the same statement gives the same pages."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(datetime.combine(statement.end, time(), UTC))
    pdf.set_title(f"Statement {statement.account} {statement.end}")
    pdf.set_auto_page_break(auto=True, margin=15)
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 16)
    pdf.cell(text="Account statement", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=10)
    for line in (
        f"Account {statement.account}",
        f"{statement.begin} to {statement.end}, amounts in {statement.currency}",
        f"Opening balance {statement.money(statement.opening)}",
    ):
        pdf.cell(text=_printable(line), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(4)
    balance = statement.opening
    heading = FontFace(emphasis="BOLD")
    widths, align = (38, 82, 35, 35), ("LEFT", "LEFT", "RIGHT", "RIGHT")
    with pdf.table(
        col_widths=widths, text_align=align, headings_style=heading, borders_layout="MINIMAL"
    ) as table:
        table.row(("Time (UTC)", "Text", "Amount", "Balance"))
        for entry in statement.entries:
            balance += entry.amount
            cells = (f"{entry.at:%Y-%m-%d %H:%M}", _printable(entry.text))
            table.row((*cells, statement.money(entry.amount), statement.money(balance)))
    pdf.ln(4)
    pdf.set_font("Helvetica", "B", 10)
    pdf.cell(text=f"Closing balance {statement.money(statement.closing)} {statement.currency}")
    return bytes(pdf.output())


def _printable(text: str) -> str:
    return text.encode(_PRINTABLE, "replace").decode(_PRINTABLE)
