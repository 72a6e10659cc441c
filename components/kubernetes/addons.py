"""The controllers that the platform stands on in a cloud cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pulumi import ComponentResource, Input, Resource, ResourceOptions
from pulumi_kubernetes.helm.v3 import Release

from components.kubernetes import charts
from components.kubernetes.addon_namespace import PRIVATE, make_addon_namespace
from components.kubernetes.charts import Chart, Sizing

_HISTORY = 5


@dataclass(frozen=True)
class AddonsArgs:
    """Which add-ons there are and what they need to know."""

    cluster: str
    """Name of the EKS cluster."""
    region: str
    """Region of the cluster."""
    vpc_id: Input[str]
    """Network of the cluster."""
    version: str
    """Kubernetes version of the cluster, such as `1.35`."""
    zone_id: str | None = None
    """Hosted zone in which ExternalDNS writes; None leaves it out."""
    domain: str | None = None
    """Domain of the records that it may write; given with the zone."""
    sizing: Sizing = field(default_factory=Sizing)
    """Replicas and priority of all."""
    identities: Mapping[str, Resource] = field(default_factory=dict)
    """Pod Identity of each release that calls AWS, by release. It is there before the pods: they get their
    credentials when they are made."""
    networks: Sequence[str] = PRIVATE
    """Networks of the cluster: from them the API server and the load balancer reach pods."""
    monitoring: str = "trading-monitoring"
    """Namespace from which metrics are read."""
    timeout_seconds: int = 600
    """For how long a release may take to become ready before it is taken back."""


class Addons(ComponentResource):
    """Helm releases at fixed versions, each in its namespace, each waited for."""

    releases: dict[str, Release]
    """Releases by name; what uses an add-on's kinds depends on its release."""

    def __init__(self, name: str, args: AddonsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Addons", name, None, opts)
        self.releases = {}
        for chart in selected(args):
            after: list[Resource] = [self.releases[name] for name in chart.after]
            if chart.own_namespace:
                after += make_addon_namespace(chart, args.networks, args.monitoring, self)
            if chart.release in args.identities:
                after.append(args.identities[chart.release])
            self.releases[chart.release] = self._release(chart, args, after)
        self.register_outputs({})

    def _release(self, chart: Chart, args: AddonsArgs, after: Sequence[Resource]) -> Release:
        return Release(
            chart.release,
            name=chart.release,
            chart=chart.chart,
            version=chart.version,
            namespace=chart.namespace,
            repository_opts={"repo": chart.repository} if chart.repository else None,
            values=chart.values,
            atomic=True,
            cleanup_on_fail=True,
            create_namespace=False,
            max_history=_HISTORY,
            skip_await=False,
            timeout=args.timeout_seconds,
            opts=ResourceOptions(parent=self, depends_on=list(after)),
        )


def selected(args: AddonsArgs) -> list[Chart]:
    """The charts of these arguments; each comes after those that it needs.

    Raises:
        ValueError: a zone without its domain, or an identity for a release that there is not.
    """
    found = [
        charts.load_balancer(args.sizing, cluster=args.cluster, region=args.region, vpc_id=args.vpc_id),
        charts.cluster_autoscaler(
            args.sizing, cluster=args.cluster, region=args.region, version=args.version
        ),
        charts.external_secrets(args.sizing),
        charts.cert_manager(args.sizing),
        charts.keda(args.sizing, cluster=args.cluster),
        charts.envoy_gateway(args.sizing),
        charts.prometheus_operator(args.sizing),
    ]
    if (args.zone_id is None) != (args.domain is None):
        raise ValueError("add-ons: zone_id and domain are given together or not at all")
    if args.zone_id is not None and args.domain is not None:
        found.append(
            charts.external_dns(
                args.sizing,
                cluster=args.cluster,
                region=args.region,
                zone_id=args.zone_id,
                domain=args.domain,
            )
        )
    known = {chart.release for chart in found if chart.service_account}
    for unknown in sorted(set(args.identities) - known):
        raise ValueError(f"add-ons: no release '{unknown}' takes an identity; {', '.join(sorted(known))} do")
    return found
