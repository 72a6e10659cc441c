"""Roles that run to completion: once for each revision of the app, or on a schedule."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.batch import v1 as batch

from app.roles import Resources, Role
from components.kubernetes.identity import make_identity
from components.kubernetes.meta import Environment, metadata
from components.kubernetes.pod import PodArgs, pod_template

_ATTEMPTS = 4
_DEADLINE_SECONDS = 600


@dataclass(frozen=True)
class TaskArgs:
    """A task of the app."""

    role: Role
    """A task of the role table."""
    namespace: str
    """Namespace that everything is put in."""
    image: Input[str]
    """Image of the app."""
    revision: str
    """Short text that changes whenever the task must run again; part of the Job's name."""
    resources: Resources
    """Requests and limits, in canonical Kubernetes quantities."""
    secret: str
    """Secret that holds the role's keys."""
    environment: Environment = field(default_factory=dict)
    """Variables of the app."""
    waits: Sequence[Input[str]] = ()
    """`host:port` of services that must answer before the task starts."""


class Task(ComponentResource):
    """A Job that runs once for each revision; its end is waited for by what depends on the component."""

    job_name: str
    """Name of the Job."""

    def __init__(self, name: str, args: TaskArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Task", name, None, opts)
        self.job_name = f"{name}-{args.revision}"
        pods = make_identity(name, args.namespace, (), parent=self)
        batch.Job(
            name,
            metadata=metadata(self.job_name, args.namespace, owner=name),
            spec=_job(name, args),
            # A Job's template is immutable: a change of it under one name needs the old Job gone first.
            opts=ResourceOptions.merge(pods, ResourceOptions(delete_before_replace=True)),
        )
        self.register_outputs({"job_name": self.job_name})


@dataclass(frozen=True)
class ScheduledTaskArgs:
    """A task of the app that runs again and again."""

    task: TaskArgs
    """What is run; `revision` is not used, because each run has a name of its own."""
    schedule: str
    """Cron expression."""
    time_zone: str = "Etc/UTC"
    """IANA time zone of the schedule."""


class ScheduledTask(ComponentResource):
    """A CronJob that never runs twice at the same time."""

    def __init__(self, name: str, args: ScheduledTaskArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:ScheduledTask", name, None, opts)
        pods = make_identity(name, args.task.namespace, (), parent=self)
        batch.CronJob(
            name,
            metadata=metadata(name, args.task.namespace),
            spec={
                "schedule": args.schedule,
                "time_zone": args.time_zone,
                "concurrency_policy": "Forbid",
                "starting_deadline_seconds": 300,
                "successful_jobs_history_limit": 1,
                "failed_jobs_history_limit": 3,
                "job_template": {"spec": _job(name, args.task)},
            },
            opts=pods,
        )
        self.register_outputs({})


def _job(name: str, args: TaskArgs) -> batch.JobSpecArgsDict:
    return {
        "backoff_limit": _ATTEMPTS,
        "active_deadline_seconds": _DEADLINE_SECONDS,
        "template": pod_template(
            PodArgs(
                name=name,
                image=args.image,
                resources=args.resources,
                args=("run", args.role.name),
                environment=args.environment,
                waits=args.waits,
                secret=args.secret,
                secret_keys=sorted(args.role.secrets),
                drain_seconds=args.role.drain_seconds,
                restart_policy="Never",
            )
        ),
    }
