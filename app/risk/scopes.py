"""Scopes of limits and kill switches as they stand in paths."""

import re
from dataclasses import asdict
from typing import Final

from app.instruments import INSTRUMENTS
from app.kit.problems import Problem
from app.risk.controls import Switch
from app.risk.limits import OF_SYMBOLS, OF_USERS, Values

LONGEST: Final = 120
_OWNER = re.compile(r"[\x21-\x2e\x30-\x7e]{1,80}")
_UNKNOWN = "unknown-scope"


def limits_scope(path: str) -> tuple[str, str]:
    """Owner and symbol of `default`, `user/X`, `symbol/X` or `user/X/symbol/Y`; empty for all.

    Raises:
        Problem: 404 `unknown-scope`.
    """
    match path.split("/"):
        case ["default"]:
            return "", ""
        case ["user", owner]:
            return _owner(owner), ""
        case ["symbol", symbol]:
            return "", _symbol(symbol)
        case ["user", owner, "symbol", symbol]:
            return _owner(owner), _symbol(symbol)
    raise Problem(404, _UNKNOWN, "A scope is default, user/X, symbol/X or user/X/symbol/Y.")


def limits_path(owner: str, symbol: str) -> str:
    """What `limits_scope` reads."""
    named = [f"{kind}/{name}" for kind, name in (("user", owner), ("symbol", symbol)) if name]
    return "/".join(named) or "default"


def switch_scope(path: str) -> Switch:
    """The kill switch of `all`, `symbol/X` or `user/X`; raises Problem 404 `unknown-scope`."""
    match path.split("/"):
        case ["all"]:
            return Switch("all")
        case ["symbol", symbol]:
            return Switch("symbol", _symbol(symbol))
        case ["user", owner]:
            return Switch("user", _owner(owner))
    raise Problem(404, _UNKNOWN, "A scope is all, symbol/X or user/X.")


def check_values(owner: str, symbol: str, values: Values) -> None:
    """Raise Problem 422 `not-of-this-scope` when a limit cannot be set for a scope, see `app.risk.limits`."""
    given = {name for name, value in asdict(values).items() if value is not None}
    wrong = given & OF_USERS if symbol else given & OF_SYMBOLS
    if wrong:
        needed = "no symbol" if symbol else "a symbol"
        raise Problem(422, "not-of-this-scope", f"{', '.join(sorted(wrong))}: only in a scope with {needed}.")


def _owner(owner: str) -> str:
    if _OWNER.fullmatch(owner) is None:
        raise Problem(404, _UNKNOWN, "A user id has 1 to 80 printable characters.")
    return owner


def _symbol(symbol: str) -> str:
    if symbol not in INSTRUMENTS:
        raise Problem(404, "unknown-symbol", "There is no such instrument.")
    return symbol
