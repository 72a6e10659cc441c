"""Generated passwords without an engine: the cluster's own Secrets are where they are remembered."""

import base64
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import TradestackError
from infra.plan.model import Plan, PlannedResource, revealed
from infra.plan.monitor import PASSWORD_TYPE, reference
from infra.render.objects import KubernetesObject

_REFERENCE = re.compile(re.escape(reference("\0")).replace("\0", "([^}]+)"))
_DEFAULT_SPECIAL = "!@#$%&*()-_=+[]{}<>:?"

Live = Mapping[tuple[str, str, str], Mapping[str, Any]]
"""Objects of the cluster by kind, namespace and name."""


def resolve(plan: Plan, items: Sequence[KubernetesObject], live: Live) -> dict[str, str]:
    """The value of every generated password: read back from the cluster, else made anew.

    Raises:
        TradestackError: a password is used in a way that does not let it be read back.
    """
    found: dict[str, str] = {}
    for item in items:
        if item.kind != "Secret":
            continue
        stored = live.get(item.key, {}).get("data", {})
        for key, value in string_data(item).items():
            whole = _REFERENCE.fullmatch(value)
            if whole is not None and key in stored:
                found.setdefault(whole[1], base64.b64decode(stored[key]).decode())
    made = {resource.name: resource for resource in plan.resources if resource.type == PASSWORD_TYPE}
    for name, resource in made.items():
        if name not in found:
            found[name] = generate(resource)
    return found


def filled(item: KubernetesObject, passwords: Mapping[str, str]) -> dict[str, Any]:
    """The object as the cluster gets it: secrets in the clear, references replaced, values encoded.

    Raises:
        TradestackError: the object refers to a password that the plan does not generate.
    """
    manifest: dict[str, Any] = revealed(item.manifest)
    if item.kind != "Secret":
        return manifest
    values = {key: _substitute(value, passwords, item) for key, value in string_data(item).items()}
    manifest.pop("stringData", None)
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return manifest | {"data": {**manifest.get("data", {}), **encoded}}


def string_data(item: KubernetesObject) -> dict[str, str]:
    """Keys and plain values of a Secret, references included."""
    return {key: str(value) for key, value in revealed(item.manifest.get("stringData", {})).items()}


def generate(resource: PlannedResource) -> str:
    """A password of the length and characters that the resource asks for."""
    given = resource.inputs
    pools = [
        (characters, int(given.get(least, 0)))
        for characters, wanted, least in (
            (string.ascii_lowercase, given.get("lower", True), "minLower"),
            (string.ascii_uppercase, given.get("upper", True), "minUpper"),
            (string.digits, given.get("numeric", given.get("number", True)), "minNumeric"),
            (given.get("overrideSpecial") or _DEFAULT_SPECIAL, given.get("special", True), "minSpecial"),
        )
        if wanted
    ]
    picked = [secrets.choice(characters) for characters, least in pools for _ in range(least)]
    everything = "".join(characters for characters, _ in pools)
    picked += [secrets.choice(everything) for _ in range(int(given["length"]) - len(picked))]
    secrets.SystemRandom().shuffle(picked)
    return "".join(picked)


def _substitute(value: str, passwords: Mapping[str, str], item: KubernetesObject) -> str:
    def password(match: re.Match[str]) -> str:
        if match[1] not in passwords:
            raise TradestackError(
                f"{item} refers to the password '{match[1]}', which the plan does not generate"
            )
        return passwords[match[1]]

    return _REFERENCE.sub(password, value)
