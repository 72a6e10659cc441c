"""Run the Pulumi program with no engine and keep what it registers."""

import asyncio
import gc
import heapq
import runpy
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from infra.errors import TradestackError
from infra.paths import REPOSITORY
from infra.plan import stackfile
from infra.plan.model import Plan, PlannedResource


def run(stack: str, *, settings_file: Path | None = None, overrides: Mapping[str, str] | None = None) -> Plan:
    """The plan of `stack`, from `Pulumi.<stack>.yaml` or `settings_file`.

    `overrides` are configuration keys with their namespace, such as `tradestack:kubeconfig`, that take the
    place of the file's. The program runs in a thread of its own, with fresh runtime settings, so that plans
    do not meet.

    Raises:
        TradestackError: the settings are refused, or the program needs a provider to go on.
    """
    path = settings_file or stackfile.locate(stack)
    configuration = {**stackfile.configuration(path), **(overrides or {})}
    return run_program(_run_program, stack, path, configuration)


def run_program(
    program: Callable[[], None], stack: str, settings_file: Path, configuration: Mapping[str, str]
) -> Plan:
    """The plan of what `program` registers as `stack`; `run` is this with the project's own program.

    Raises:
        TradestackError: the program needs a provider to go on, or says itself why it cannot.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan") as executor:
        return executor.submit(_plan, program, stack, settings_file, dict(configuration)).result()


def _plan(program: Callable[[], None], stack: str, path: Path, configuration: dict[str, str]) -> Plan:
    # Tens of thousands of classes are made while the providers' packages are imported, none of them garbage.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _collect(program, stack, path, configuration)
    finally:
        if collecting:
            gc.enable()


def _collect(body: Callable[[], None], stack: str, path: Path, configuration: dict[str, str]) -> Plan:
    import pulumi
    from pulumi.runtime import config, resource, settings
    from pulumi.runtime.proto import source_pb2
    from pulumi.runtime.stack import run_in_stack

    from infra.plan.monitor import Engine, Monitor

    project = stackfile.project()
    monitor, engine = Monitor(stack, project), Engine()
    runtime = settings.Settings(
        project=project,
        stack=stack,
        monitor=monitor,
        engine=engine,
        dry_run=True,
        organization="organization",
        root_directory=str(REPOSITORY),
    )

    async def settled() -> None:
        body()
        # The SDK waits for one task after the other, which grows with the square of their number.
        while tasks := [task for task in settings.SETTINGS.outputs if not task.done()]:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if any(task.cancelled() or task.exception() for task in done):
                return

    async def program() -> None:
        asyncio.get_running_loop().set_exception_handler(_told_already)
        settings.configure(runtime)
        config.set_all_config(configuration)
        await run_in_stack(settled)

    try:
        # Where in the program a resource is made is not kept, and looking it up takes a sixth of the time.
        with mock.patch.object(resource, "_get_stack_trace", source_pb2.StackTrace):
            asyncio.run(program())
    except pulumi.RunError as error:
        raise TradestackError(str(error)) from error
    resources = [
        replace(item, outputs=monitor.outputs.get(urn, {})) for urn, item in monitor.resources.items()
    ]
    root = f"urn:pulumi:{stack}::{project}::pulumi:pulumi:Stack::{project}-{stack}"
    return Plan(
        stack=stack,
        project=project,
        resources=tuple(_ordered(resources)),
        outputs=monitor.outputs.get(root, {}),
        settings_file=path,
        warnings=tuple(engine.warnings),
    )


def _told_already(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Leave out what a refused request fails with it, which nobody awaits: the refusal ends the program."""
    if not isinstance(context.get("exception"), TradestackError):
        loop.default_exception_handler(context)


def _run_program() -> None:
    runpy.run_path(str(REPOSITORY / "infra" / "__main__.py"), run_name="__main__")


def _ordered(resources: Iterable[PlannedResource]) -> list[PlannedResource]:
    """Every resource after its parent, provider and dependencies; by URN where that leaves a choice."""
    by_urn = {resource.urn: resource for resource in resources}
    needs = {
        urn: {need for need in (item.parent, item.provider, *item.dependencies) if need in by_urn}
        for urn, item in by_urn.items()
    }
    users: dict[str, list[str]] = {urn: [] for urn in by_urn}
    for urn, needed in needs.items():
        for need in needed:
            users[need].append(urn)
    ready = [urn for urn, needed in needs.items() if not needed]
    heapq.heapify(ready)
    ordered: list[PlannedResource] = []
    while ready:
        urn = heapq.heappop(ready)
        ordered.append(by_urn[urn])
        for user in users[urn]:
            needs[user].discard(urn)
            if not needs[user]:
                heapq.heappush(ready, user)
    return ordered
