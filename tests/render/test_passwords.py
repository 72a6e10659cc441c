"""Generated passwords: read back where the cluster has them, made where it has not."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import TradestackError
from infra.plan import Plan, PlannedResource, Secret
from infra.plan.model import Options
from infra.plan.monitor import PASSWORD_TYPE, reference
from infra.render import objects
from infra.render.passwords import filled, generate, resolve
from stacks.base import APP_KEYS


def _password(**inputs: Any) -> PlannedResource:
    return PlannedResource(
        urn="urn:pulumi:local::tradestack::random::p",
        type=PASSWORD_TYPE,
        name="p",
        parent="",
        custom=True,
        inputs=inputs,
        dependencies=(),
        property_dependencies={},
        provider="",
        options=Options(),
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_new_passwords_are_as_the_program_asks(local_plan: Plan) -> None:
    made = resolve(local_plan, objects(local_plan), {})
    assert set(made) == {"database-password", "cache-password", *APP_KEYS}
    assert len(set(made.values())) == len(made)
    assert all(value.isalnum() for value in made.values())
    assert {name: len(value) for name, value in made.items()} == {
        "database-password": 32,
        "cache-password": 32,
        **dict.fromkeys(APP_KEYS, 48),
    }


def test_passwords_of_the_cluster_are_kept(local_plan: Plan) -> None:
    live = {
        ("Secret", "trading-data", "postgresql"): {"data": {"password": _encoded("from the database")}},
        ("Secret", "trading-data", "app-keys"): {"data": {key: _encoded(key) for key in APP_KEYS.values()}},
        ("Secret", "trading-system", "app-secrets"): {
            "data": {"app_cache_password": _encoded("from the app")}
        },
    }
    kept = resolve(local_plan, objects(local_plan), live)
    assert kept == {"database-password": "from the database", "cache-password": "from the app", **APP_KEYS}


def test_every_reference_is_replaced(local_plan: Plan) -> None:
    passwords = {"database-password": "one", "cache-password": "two", **APP_KEYS}
    secrets = {item.name: filled(item, passwords) for item in objects(local_plan) if item.kind == "Secret"}
    assert secrets["postgresql"]["data"] == {"password": _encoded("one")}
    assert secrets["redis"]["data"] == {"password": _encoded("two")}
    assert secrets["app-secrets"]["data"] == {
        "app_database_password": _encoded("one"),
        "app_cache_password": _encoded("two"),
        **{key: _encoded(key) for key in APP_KEYS.values()},
    }
    assert all("stringData" not in secret for secret in secrets.values())


def test_a_reference_may_stand_inside_a_text(local_plan: Plan) -> None:
    item = next(item for item in objects(local_plan) if item.kind == "Secret")
    inputs = {**item.manifest, "stringData": Secret({"url": f"redis://:{reference('p')}@host"})}
    composed = replace(item, resource=replace(item.resource, inputs=inputs))
    assert filled(composed, {"p": "word"})["data"] == {"url": _encoded("redis://:word@host")}
    with pytest.raises(TradestackError, match="refers to the password 'p', which the plan does not generate"):
        filled(composed, {})


@pytest.mark.parametrize(
    ("inputs", "allowed"),
    [
        ({"length": 20, "special": False}, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
        ({"length": 40, "special": False, "upper": False, "numeric": False}, "abcdefghijklmnopqrstuvwxyz"),
        ({"length": 12, "lower": False, "upper": False, "numeric": False, "overrideSpecial": "-_"}, "-_"),
    ],
)
def test_length_and_characters(inputs: dict[str, Any], allowed: str) -> None:
    password = generate(_password(**inputs))
    assert len(password) == inputs["length"]
    assert set(password) <= set(allowed)


def test_least_numbers_of_characters() -> None:
    password = generate(_password(length=8, minNumeric=3, minUpper=3, minSpecial=2))
    assert sum(character.isdigit() for character in password) == 3
    assert sum(character.isupper() for character in password) == 3
