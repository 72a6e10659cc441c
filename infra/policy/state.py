"""Assertions about what the state of a stack may show."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from infra.plan.model import Secret
from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion

_KEYS = re.compile(
    r"(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|ghp_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{30,}"
    r"|sk_live_[0-9a-zA-Z]{16,}|xox[abpr]-[0-9A-Za-z-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}"
)
"""Credentials that can be told by their form."""
_URL_PASSWORD = re.compile(r"://[^/@\s:]*:(?!\*\*\*@)[^/@\s]+@")
_CREDENTIAL = re.compile(
    r"(?:^|[_.-])(?:password|passwd|secret|token|api_?key|private_?key|access_?key|credentials?)$",
    re.IGNORECASE,
)
"""Last word of an input's name whose value is a credential."""
_CREDENTIAL_INPUTS = frozenset(
    {
        "password",
        "masterPassword",
        "authToken",
        "secretString",
        "secretBinary",
        "privateKey",
        "secretAccessKey",
    }
)
_GENERATED = re.compile(r"\$\{generated:[^}]+\}")
_LEAST_LENGTH = 12
_ENTROPY_BITS = 3.5
_LITERAL = re.compile(r"[A-Za-z0-9+/_=!@#$%^&*.-]+")


def _everything(estate: Estate) -> list[Resource]:
    return list(estate.resources)


@assertion(
    61,
    "Every credential is a secret of Pulumi, in inputs and outputs",
    on=_everything,
    family="State",
    severity="critical",
    seen_by_engine=False,
)
def credentials(resource: Resource, estate: Estate) -> Iterator[str]:
    """What has the form of a key, the name of one, or comes from a generated password."""
    for path, value in (*_plain(resource.inputs, ""), *_plain(resource.outputs, "outputs")):
        what = _kind(path, value)
        if what:
            yield f"{path} is no secret but holds {what}"


def _plain(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Texts outside secrets, with their paths."""
    if isinstance(value, Secret):
        return
    if isinstance(value, Mapping):
        # An environment variable has its name in one key and its value in another.
        if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
            yield f"{path}.{value['name']}", value["value"]
            return
        for key, item in value.items():
            yield from _plain(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _plain(item, f"{path}.{index}")
    elif isinstance(value, str):
        yield path, value


def _kind(path: str, value: str) -> str | None:
    if _GENERATED.search(value):
        return "a generated password"
    if _KEYS.search(value):
        return "a key, by its form"
    if _URL_PASSWORD.search(value):
        return "an address with a password"
    last = path.rsplit(".", 1)[-1]
    if last in _CREDENTIAL_INPUTS:
        return "a credential, by its name"
    named = any(_CREDENTIAL.search(part) for part in (last, _snake(last)))
    if (
        named
        and _LITERAL.fullmatch(value)
        and len(value) >= _LEAST_LENGTH
        and _entropy(value) >= _ENTROPY_BITS
    ):
        return "what looks like a credential"
    return None


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _entropy(text: str) -> float:
    """Bits for each character, by how often the characters occur."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
