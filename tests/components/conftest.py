"""Components registered against Pulumi's mocks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks


@dataclass
class Recorder(Mocks):
    """Answers a registration with its inputs; refuses every invoke."""

    registered: list[MockResourceArgs] = field(default_factory=list)

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.registered.append(args)
        computed = {"result": "generated"} if args.typ.endswith(":RandomPassword") else {}
        return f"{args.name}-id", {**args.inputs, **computed}

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"no component may call {args.token}")

    def custom(self) -> list[MockResourceArgs]:
        """What a provider would manage, providers themselves left out."""
        return [item for item in self.registered if item.custom and not item.typ.startswith("pulumi:")]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Inputs of the only resource of this kind, and of this name where one is given."""
        found = [
            item.inputs
            for item in self.custom()
            if item.typ.endswith(f":{kind}") and name in (None, item.name)
        ]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def kinds(self) -> list[str]:
        """Kinds of everything that a provider would manage, sorted."""
        return sorted(item.typ.rsplit(":", 1)[-1] for item in self.custom())


def _record(build: Callable[[], object]) -> Recorder:
    recorder = Recorder()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    set_mocks(recorder, project="tradestack", stack="local", preview=False)

    @pulumi.runtime.test
    def register() -> None:
        build()

    try:
        register()
    finally:
        loop.close()
    return recorder


@pytest.fixture
def record() -> Callable[[Callable[[], object]], Recorder]:
    """Runs a function that registers resources and gives back what it registered.

    Each runs in a thread of its own: the SDK keeps its state in the context of the thread.
    """

    def run(build: Callable[[], object]) -> Recorder:
        with ThreadPoolExecutor(max_workers=1) as executor:
            return executor.submit(_record, build).result()

    return run
