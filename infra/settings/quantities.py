"""Typed quantities of stack settings, written in the canonical form that the Kubernetes API server stores.

Another spelling of the same amount (`1000m` for `1`) would show as drift on every refresh.
"""

import ipaddress
import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def refuse(allowed: str) -> PydanticCustomError:
    """The error for a value that is not `allowed`, in words that follow "allowed: "."""
    return PydanticCustomError("not_allowed", "{allowed}", {"allowed": allowed})


class Quantity(int):
    """An amount with a unit, counted in the smallest one."""

    allowed: ClassVar[str]
    """What may be written, for error messages."""
    largest: ClassVar[int]
    """The highest amount that Kubernetes takes, or that makes sense."""

    @classmethod
    def amount(cls, text: str) -> int | None:
        """`text` in the smallest unit, or None if it is not such a quantity."""
        raise NotImplementedError

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a quantity from a stack file's value.

        Raises:
            PydanticCustomError: not a quantity of this kind, not above zero, or above `largest`.
        """
        if isinstance(value, cls):
            return value
        amount = None if isinstance(value, bool) or value is None else cls.amount(str(value).strip())
        if amount is None or amount <= 0:
            raise refuse(cls.allowed)
        if amount > cls.largest:
            raise refuse(f"at most {cls(cls.largest)}")
        return cls(amount)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)


class Cpu(Quantity):
    """Processor time in thousandths of a core."""

    allowed = "a CPU amount such as 250m, 0.5 or 2"
    largest = 1_000_000

    @classmethod
    def amount(cls, text: str) -> int | None:
        """See `Quantity.amount`."""
        match = re.fullmatch(r"(\d+)m|(\d+(?:\.\d{1,3})?)", text)
        if match is None:
            return None
        return int(match[1]) if match[1] else int(Decimal(match[2]) * 1000)

    def __str__(self) -> str:
        return str(self // 1000) if self % 1000 == 0 else f"{int(self)}m"


class Memory(Quantity):
    """Memory or storage in bytes."""

    allowed = "a size with a binary unit (Ki, Mi, Gi, Ti) such as 512Mi or 2Gi"
    largest = 1024 * 2**40
    _units: ClassVar[dict[str, int]] = {"Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10}

    @classmethod
    def amount(cls, text: str) -> int | None:
        """See `Quantity.amount`."""
        match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti)", text)
        return None if match is None else int(match[1]) * cls._units[match[2]]

    def __str__(self) -> str:
        for unit, size in self._units.items():
            if self % size == 0:
                return f"{self // size}{unit}"
        return str(int(self))


class Duration(Quantity):
    """A time in seconds."""

    allowed = "a time with a unit (s, m, h) such as 30s or 5m"
    largest = 3600
    _units: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600}

    @classmethod
    def amount(cls, text: str) -> int | None:
        """See `Quantity.amount`."""
        match = re.fullmatch(r"(\d+)([smh])", text)
        return None if match is None else int(match[1]) * cls._units[match[2]]

    def __str__(self) -> str:
        return f"{int(self)}s"


def whole(low: int, high: int, what: str = "a whole number") -> BeforeValidator:
    """Validator of a whole number from `low` to `high`, both included."""

    def check(value: object) -> int:
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", text) or not low <= int(text) <= high:
            raise refuse(f"{what} from {low} to {high}")
        return int(text)

    return BeforeValidator(check)


def one_number_of(numbers: tuple[int, ...]) -> BeforeValidator:
    """Validator of a whole number that is one of `numbers`."""

    def check(value: object) -> int:
        if isinstance(value, bool) or str(value) not in map(str, numbers):
            raise refuse("one of " + ", ".join(map(str, numbers)))
        return int(str(value))

    return BeforeValidator(check)


def matching(pattern: str, allowed: str) -> BeforeValidator:
    """Validator of a text that matches `pattern` as a whole; `allowed` says in words what does."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise refuse(allowed)
        return value

    return BeforeValidator(check)


def _cidr(value: object) -> str:
    try:
        return str(ipaddress.ip_network(str(value)))
    except ValueError:
        allowed = "a network in CIDR form without host bits, such as 10.0.0.0/16 or 0.0.0.0/0"
        raise refuse(allowed) from None


Cidr = Annotated[str, BeforeValidator(_cidr)]
"""A network address with its prefix length."""

NodePort = Annotated[int, whole(30000, 32767, "a port")]
"""A port that Kubernetes opens on every node."""

Clock = Annotated[str, matching(r"([01]\d|2[0-3]):[0-5]\d", "a time of day such as 07:30")]
"""A time of day, to the minute."""

Weekdays = Literal["MON-FRI", "MON-SAT", "MON-SUN"]
"""Days of the week, in the words of cron."""


def _time_zone(value: object) -> str:
    # Short names such as EST mean different things to different programs.
    if isinstance(value, str) and "/" in value:
        try:
            return ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise refuse("an IANA time zone such as America/New_York")


TimeZone = Annotated[str, BeforeValidator(_time_zone)]
"""A time zone by its name in the IANA database."""
