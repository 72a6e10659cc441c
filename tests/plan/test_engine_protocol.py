"""The program over the engine's own protocol, started as the engine's language host starts it.

Not the engine: it checks that the program finds its packages with `infra/` as working directory, reads its
configuration from where the engine puts it, and registers over gRPC exactly what it registers in a plan.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from infra.paths import REPOSITORY
from infra.plan import Plan, stackfile
from infra.plan.monitor import Monitor

HOST = """
import asyncio, os, runpy, sys
from pulumi.runtime.settings import Settings, configure
from pulumi.runtime.stack import run_in_stack

async def main():
    configure(Settings(project="tradestack", stack="local", monitor=os.environ["MONITOR"],
                       engine=os.environ["MONITOR"], dry_run=False, organization="organization"))
    await run_in_stack(lambda: runpy.run_path(program, run_name="__main__") and None)

program = sys.argv[1]
sys.path[0] = program
asyncio.run(main())
"""


class Service(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """A monitor behind gRPC that creates what is registered, as an update does."""

    def __init__(self) -> None:
        self.monitor = Monitor("local", "tradestack")
        self.log: list[str] = []

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:
        return self.monitor.GetDeploymentInfo(request)

    def RegisterResource(self, request: Any, context: Any) -> Any:
        answer = self.monitor.RegisterResource(request)
        return resource_pb2.RegisterResourceResponse(
            urn=answer.urn, id=f"{request.name}-id", object=answer.object
        )

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:
        return self.monitor.RegisterResourceOutputs(request)

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Log(self, request: Any, context: Any) -> Any:
        self.log.append(request.message)
        return empty_pb2.Empty()


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    """The monitor and its address."""
    server, made = grpc.server(ThreadPoolExecutor(max_workers=8)), Service()
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(made, server)
    engine_pb2_grpc.add_EngineServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"127.0.0.1:{port}"
    server.stop(grace=None).wait()


def _run(address: str, configuration: dict[str, str], kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    program = REPOSITORY / "infra"
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment = {
        **kept,
        "MONITOR": address,
        "PULUMI_CONFIG": json.dumps(configuration),
        "KUBECONFIG": str(kubeconfig),
    }
    command = [sys.executable, "-c", HOST, str(program)]
    return subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, timeout=120)


def test_registers_what_the_plan_shows(
    local_plan: Plan, service: tuple[Service, str], tmp_path: Path
) -> None:
    made, address = service
    configuration = stackfile.configuration(stackfile.locate("local"))
    done = _run(address, configuration, tmp_path / "kubeconfig")
    assert done.returncode == 0, done.stderr
    assert set(made.monitor.resources) == set(local_plan.by_urn)
    for urn, resource in made.monitor.resources.items():
        planned = local_plan.by_urn[urn]
        assert (resource.dependencies, resource.provider) == (planned.dependencies, planned.provider)
        assert resource.options == planned.options
        assert resource.secrets == planned.secrets


def test_refused_settings_register_nothing_but_the_stack(
    service: tuple[Service, str], tmp_path: Path
) -> None:
    made, address = service
    done = _run(
        address, {"tradestack:platform": "moon", "tradestack:nodePort": "80"}, tmp_path / "kubeconfig"
    )
    assert done.returncode != 0
    assert "Pulumi.local.yaml: 2 settings are refused, nothing was changed" in done.stderr
    assert [resource.type for resource in made.monitor.resources.values()] == ["pulumi:pulumi:Stack"]
