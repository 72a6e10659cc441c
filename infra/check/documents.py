"""Policy documents whose ARNs only AWS knows, read with ARNs that are made up."""

import asyncio
import gc
import json
import runpy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pulumi.runtime.proto import resource_pb2

from infra.paths import REPOSITORY
from infra.plan import stackfile
from infra.plan.model import UNKNOWN, Plan, PlannedResource
from infra.plan.monitor import Engine, Monitor

_ACCOUNT = "123456789012"
_DATABASE = "aws:rds/instance:Instance"


class _Inventing(Monitor):
    """Answers with an id and an ARN that are made up, where a provider would tell them."""

    def RegisterResource(
        self, request: resource_pb2.RegisterResourceRequest
    ) -> resource_pb2.RegisterResourceResponse:
        """Keep the request, and answer as if the resource were there."""
        response = super().RegisterResource(request)
        if request.custom and request.type.startswith("aws:"):
            response.id = request.name
            arn = made_up_arn(request.type, request.name)
            if "arn" not in response.object.fields:
                response.object.fields["arn"].string_value = arn
            if request.type == _DATABASE:
                secret = response.object.fields["masterUserSecrets"].list_value.values.add().struct_value
                secret.fields["secretArn"].string_value = f"{arn}-secret"
        return response


def made_up_arn(type_: str, name: str) -> str:
    """An ARN in the form of AWS's own, for a resource that does not exist yet."""
    module, kind = type_.split(":")[1].split("/")
    return f"arn:aws:{module}:us-east-1:{_ACCOUNT}:{kind}/{name}"


def complete(plan: Plan) -> Plan:
    """The plan with every policy document that can be written down once the ARNs in it are made up.

    Nothing else changes: all other unknown values stay unknown.
    """
    if not any(_unknown(item) for item in plan.resources):
        return plan
    # A thread has runtime settings of its own, so that plans do not meet.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="documents") as executor:
        found = executor.submit(_run, plan).result()
    return replace(plan, resources=tuple(_completed(item, found) for item in plan.resources))


def _unknown(item: PlannedResource) -> list[str]:
    return [key for key, value in item.inputs.items() if item.type.startswith("aws:") and value is UNKNOWN]


def _completed(item: PlannedResource, found: dict[str, PlannedResource]) -> PlannedResource:
    other = found[item.urn].inputs
    documents = {key: other[key] for key in _unknown(item) if _is_document(other.get(key))}
    return replace(item, inputs={**item.inputs, **documents}) if documents else item


def _is_document(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith("{"):
        return False
    try:
        return "Statement" in json.loads(value)
    except json.JSONDecodeError:
        return False


def _run(plan: Plan) -> dict[str, PlannedResource]:
    # As in a plan: many classes are made, none of them garbage.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _registered(plan)
    finally:
        if collecting:
            gc.enable()


def _registered(plan: Plan) -> dict[str, PlannedResource]:
    from pulumi.runtime import config, settings
    from pulumi.runtime.stack import run_in_stack

    monitor = _Inventing(plan.stack, plan.project)
    runtime = settings.Settings(
        project=plan.project,
        stack=plan.stack,
        monitor=monitor,
        engine=Engine(),
        dry_run=True,
        organization="organization",
        root_directory=str(REPOSITORY),
    )

    async def program() -> None:
        settings.configure(runtime)
        config.set_all_config(stackfile.configuration(plan.settings_file))
        await run_in_stack(_program)

    asyncio.run(program())
    return monitor.resources


def _program() -> None:
    runpy.run_path(str(REPOSITORY / "infra" / "__main__.py"), run_name="__main__")
