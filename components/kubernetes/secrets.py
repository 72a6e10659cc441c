"""Passwords that are generated once, and the Secrets through which pods read them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi_random
from pulumi import ComponentResource, Output, ResourceOptions
from pulumi_kubernetes.core import v1 as core

from components.kubernetes.meta import metadata


@dataclass(frozen=True)
class SecretKey:
    """One key of one Secret."""

    namespace: str
    secret: str
    key: str


@dataclass(frozen=True)
class Password:
    """A generated password."""

    places: tuple[SecretKey, ...]
    """Everywhere it is to be found."""
    length: int = 32
    """Characters; another length makes another password."""


@dataclass(frozen=True)
class CredentialsArgs:
    """What is generated."""

    passwords: Mapping[str, Password]
    """By name."""


class Credentials(ComponentResource):
    """Random passwords, each written to every Secret that needs it."""

    def __init__(self, name: str, args: CredentialsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Credentials", name, None, opts)
        child = ResourceOptions(parent=self)
        secrets: dict[tuple[str, str], dict[str, Output[str]]] = {}
        for item, password in args.passwords.items():
            # Letters and digits only: it is also put into URLs and shell variables.
            made = pulumi_random.RandomPassword(item, length=password.length, special=False, opts=child)
            for place in password.places:
                secrets.setdefault((place.namespace, place.secret), {})[place.key] = made.result
        for (namespace, secret), values in secrets.items():
            core.Secret(
                f"{namespace}-{secret}",
                metadata=metadata(secret, namespace),
                type="Opaque",
                string_data=values,
                opts=child,
            )
        self.register_outputs({})
