"""Builds and pipelines."""

from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, use
from infra.cost.inputs import Inputs


def project(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Minutes of a build project."""
    arch = "arm" if inputs.text("environment.type", "LINUX_CONTAINER").startswith("ARM") else "linux"
    size = inputs.text("environment.computeType", "BUILD_GENERAL1_SMALL").rsplit("_", 1)[-1].lower()
    yield use(context, "build_minutes", context.price("codebuild", f"{arch}-{size}"), "build minutes")


def pipeline(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """A pipeline: by action minutes, or by the month when it is of the first type."""
    if inputs.text("pipelineType", "V1") == "V2":
        yield use(
            context, "pipeline_minutes", context.price("codepipeline", "action-minutes"), "action minutes"
        )
    else:
        yield Charge("active pipeline", Decimal(1), context.price("codepipeline", "v1-pipeline"))
