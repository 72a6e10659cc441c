"""EKS, its nodes and volumes, EC2 instances, Fargate and Lambda."""

from collections.abc import Iterator
from decimal import Decimal

from infra.cost.context import Charge, Context, nodes_of, use
from infra.cost.inputs import Inputs
from infra.cost.model import HOURS
from infra.cost.prices import Price
from infra.errors import TradestackError
from infra.plan.model import PlannedResource, Unknown

LAUNCH_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
TASK_DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"
ECS_SERVICE = "aws:ecs/service:Service"

_OLDEST_STANDARD = (1, 34)
"""Oldest Kubernetes version in standard support; 1.34 leaves it on 2026-12-02."""


def cluster(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """EKS control plane, with the surcharge for a version in extended support."""
    yield Charge("EKS control plane", HOURS, context.price("eks", "cluster"))
    version = inputs.text("version", "")
    if version and tuple(int(part) for part in version.split(".")) < _OLDEST_STANDARD:
        yield Charge(f"extended support of {version}", HOURS, context.price("eks", "extended-support"))


def node_group(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Instances of a managed node group, as its first type, and root volumes, by its hours."""
    template = context.referenced(inputs.resource, "launchTemplate", LAUNCH_TEMPLATE)
    template_inputs = context.inputs(template) if template else None
    instance_type = _instance_type(inputs, template_inputs)
    nodes = nodes_of(inputs)
    average = context.running_nodes(inputs)
    label = f"{nodes.normalize():f} x {instance_type}"
    if average != nodes:
        label += f", {average:.2f} on average by schedule"
    price = context.price("ec2", instance_type)
    yield _instances(inputs, context, price, average, label, is_scheduled=average != nodes)
    disk = _disk_gib(inputs, template_inputs)
    yield Charge(
        f"root volumes of {disk.normalize():f} GiB",
        average * disk,
        context.price("ebs", "gp3"),
        is_stoppable=average == nodes,
    )


def _instances(
    inputs: Inputs, context: Context, price: Price, average: Decimal, label: str, *, is_scheduled: bool
) -> Charge:
    hours = average * HOURS
    if inputs.text("capacityType", "ON_DEMAND") == "SPOT":
        return Charge(
            f"{label}, Spot",
            hours,
            price,
            usd=context.table.less(price, "spot"),
            is_stoppable=not is_scheduled,
            is_uncited=context.table.discounts["spot"].is_estimate,
        )
    # A taint says that the group is there for one workload, which is then no candidate for interruption.
    tolerant = not inputs.items("taints")
    return Charge(
        label,
        hours,
        price,
        can_be_spot=tolerant,
        commitment="" if is_scheduled else "compute-savings-plan",
        is_stoppable=not is_scheduled,
    )


def _instance_type(inputs: Inputs, template: Inputs | None) -> str:
    given = inputs.items("instanceTypes")
    if given and not isinstance(given[0], Unknown):
        return str(given[0])
    # The default of the service where neither the group nor its template names one.
    return template.text("instanceType", "t3.medium") if template else "t3.medium"


def _disk_gib(inputs: Inputs, template: Inputs | None) -> Decimal:
    if template and template.value("blockDeviceMappings") is not None:
        return template.number("blockDeviceMappings.ebs.volumeSize", 20)
    return inputs.number("diskSize", 20)


def instance(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """One EC2 instance with its root volume."""
    price = context.price("ec2", inputs.text("instanceType"))
    yield Charge(price.item, HOURS, price, commitment="compute-savings-plan", is_stoppable=True)
    disk = inputs.number("rootBlockDevice.volumeSize", 8)
    yield Charge("root volume", disk, context.price("ebs", "gp3"))


def volume(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """An EBS volume."""
    yield Charge("volume", inputs.number("size"), context.price("ebs", inputs.text("type", "gp2")))


def ecs_service(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Tasks of an ECS service on Fargate, all month."""
    definition = context.referenced(inputs.resource, "taskDefinition", TASK_DEFINITION)
    if definition is None:
        context.notes.append(f"{inputs.resource.name}: its task definition is not in the plan; not counted")
        return
    tasks = inputs.number("desiredCount", 1)
    task = context.inputs(definition)
    yield from _fargate(task, context, tasks * HOURS, f"{tasks.normalize():f} x")


def task_definition(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Hours of a task that no service keeps running: a scheduled job."""
    if any(True for _ in context.referring(inputs.resource, "taskDefinition", ECS_SERVICE)):
        return
    hours = context.usage.take("job_hours")
    yield from _fargate(inputs, context, hours, "job", assumption="job_hours")


def _fargate(
    task: Inputs, context: Context, hours: Decimal, label: str, *, assumption: str = ""
) -> Iterator[Charge]:
    arch = "arm" if task.text("runtimePlatform.cpuArchitecture", "X86_64") == "ARM64" else "x86"
    for item, size, unit in (
        ("vcpu", task.number("cpu", 256) / 1024, "vCPU"),
        ("gb", task.number("memory", 512) / 1024, "GB"),
    ):
        price = context.price("fargate", f"{item}-{arch}")
        yield Charge(
            f"{label} {size.normalize():f} {unit} ({arch})",
            hours * size,
            price,
            assumption=assumption,
            commitment="" if assumption else "fargate-savings-plan",
            is_stoppable=not assumption,
        )


def function(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Requests and run time of a Lambda function."""
    millions = context.usage.take("lambda_millions")
    yield Charge("requests", millions, context.price("lambda", "requests"), assumption="lambda_millions")
    arch = "arm" if "arm64" in inputs.items("architectures") else "x86"
    seconds = context.usage.take("lambda_seconds")
    memory = inputs.number("memorySize", 128)
    price = context.price("lambda", f"gb-seconds-{arch}")
    yield Charge(
        f"{memory.normalize():f} MB ({arch})",
        millions * 1_000_000 * seconds * memory / 1024,
        price,
        assumption="lambda_seconds",
        commitment="lambda-savings-plan",
    )


def claim(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """An in-cluster volume, which the cluster's CSI driver makes as EBS."""
    size = gibibytes(inputs.text("spec.resources.requests.storage", "0"))
    yield Charge("persistent volume", size, context.price("ebs", "gp3"))


def stateful_set(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """Volumes of a StatefulSet's claim templates, one per replica."""
    replicas = inputs.number("spec.replicas", 1)
    for template in inputs.items("spec.volumeClaimTemplates"):
        resource: PlannedResource = inputs.resource
        size = gibibytes(str(template["spec"]["resources"]["requests"]["storage"]))
        what = f"{replicas.normalize():f} persistent volumes of {size.normalize():f} GiB ({resource.name})"
        yield Charge(what, size * replicas, context.price("ebs", "gp3"))


def gibibytes(quantity: str) -> Decimal:
    """GiB of a Kubernetes quantity such as `10Gi`.

    Raises:
        TradestackError: it has a unit that is none of Mi, Gi, Ti.
    """
    units = {"Mi": Decimal(1) / 1024, "Gi": Decimal(1), "Ti": Decimal(1024)}
    number, unit = quantity[:-2], quantity[-2:]
    if quantity.isdigit():
        return Decimal(quantity) / 1024**3
    if unit not in units:
        raise TradestackError(f"'{quantity}': give storage in Mi, Gi or Ti")
    return Decimal(number) * units[unit]


def kubernetes_service(inputs: Inputs, context: Context) -> Iterator[Charge]:
    """The network load balancer that a Service of type LoadBalancer makes."""
    if inputs.text("spec.type", "ClusterIP") != "LoadBalancer":
        return
    yield Charge("network load balancer", HOURS, context.price("elb", "network"))
    yield use(context, "nlb_lcu", context.price("elb", "network-lcu"), "capacity units", HOURS)
