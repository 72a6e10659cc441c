"""Which role a public path leads to."""

from app.roles import ROLES

_HIDDEN = ("internal", "metrics", "livez", "readyz", "openapi.json")
"""Names that no upstream shows to the public, wherever they stand in a path."""

_PREFIXES = sorted(
    ((prefix.rstrip("/"), role.name) for role in ROLES.values() for prefix in role.routes),
    key=lambda route: len(route[0]),
    reverse=True,
)


def is_hidden(path: str) -> bool:
    """Whether a decoded path must not be reached from outside."""
    return any(segment in _HIDDEN for segment in path.split("/"))


def is_plain(path: str) -> bool:
    """Whether a decoded path means the same to everyone: absolute, without dot segments and backslashes."""
    return path.startswith("/") and "\\" not in path and not {".", ".."} & set(path.split("/"))


def route(path: str) -> tuple[str, str] | None:
    """The prefix that fits best and its role; None when no role serves the path."""
    for prefix, role in _PREFIXES:
        if path == prefix or path.startswith(prefix + "/"):
            return prefix or "/", role
    return None
