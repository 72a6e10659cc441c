"""What joins the cluster to the outside: targets of the load balancer, certificates of Let's Encrypt."""

from dataclasses import dataclass

from pulumi import ComponentResource, Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.kubernetes.meta import labels, metadata

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""Certificates that browsers trust; 50 a week for one domain."""
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
"""Certificates that nobody trusts, for trials without that limit."""


@dataclass(frozen=True)
class TargetGroupBindingArgs:
    """A Service and the target group that its pods belong to."""

    namespace: str
    """Namespace of the Service."""
    service: str
    """Name of the Service."""
    port: int | str
    """Port of the Service, by number or name."""
    target_group_arn: Input[str]
    """ARN of the target group, whose targets are addresses."""
    vpc_id: Input[str]
    """Network of the target group."""


class TargetGroupBinding(ComponentResource):
    """Keeps the addresses of a Service's ready pods in a target group.

    The load balancer and its security groups are not the controller's: it may register targets and nothing
    else. The binding must be gone before its target group is.
    """

    def __init__(self, name: str, args: TargetGroupBindingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:TargetGroupBinding", name, None, opts)
        CustomResource(
            name,
            api_version="elbv2.k8s.aws/v1beta1",
            kind="TargetGroupBinding",
            metadata=metadata(name, args.namespace, owner=args.service),
            spec={
                "serviceRef": {"name": args.service, "port": args.port},
                "targetGroupARN": args.target_group_arn,
                "targetType": "ip",
                "ipAddressType": "ipv4",
                "vpcID": args.vpc_id,
            },
            opts=ResourceOptions(
                parent=self,
                # The controller refuses a change of these.
                replace_on_changes=["spec.targetGroupARN", "spec.vpcID"],
                delete_before_replace=True,
            ),
        )
        self.register_outputs({})


@dataclass(frozen=True)
class CertificateArgs:
    """A certificate that cert-manager keeps in a Secret."""

    namespace: str
    """Namespace of the Secret, whose name is the component's."""
    domains: tuple[str, ...]
    """Names that the certificate is for."""
    issuer: str
    """Name of the ClusterIssuer."""


class Certificate(ComponentResource):
    """A certificate with a new key at each renewal, 30 of Let's Encrypt's 90 days before it ends."""

    def __init__(self, name: str, args: CertificateArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Certificate", name, None, opts)
        CustomResource(
            name,
            api_version="cert-manager.io/v1",
            kind="Certificate",
            metadata=ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=labels(name),
                annotations={"pulumi.com/waitFor": "condition=Ready"},
            ),
            spec={
                "secretName": name,
                "dnsNames": list(args.domains),
                "issuerRef": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": args.issuer},
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "usages": ["digital signature", "server auth"],
                "duration": "2160h",
                "renewBefore": "720h",
            },
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})


@dataclass(frozen=True)
class IssuerArgs:
    """Who asks Let's Encrypt for certificates, and for which domain."""

    email: str
    """Address that hears of certificates that end."""
    domain: str
    """Domain of the certificates, and every name below it."""
    zone_id: str
    """Route 53 zone of the domain."""
    region: str
    """Region that cert-manager signs its requests for; Route 53 is the same in each."""
    server: str = LETS_ENCRYPT
    """ACME directory."""


class Issuer(ComponentResource):
    """A ClusterIssuer that proves the domain through DNS, so that nothing need be reachable from outside.

    The component's name is the issuer's.
    """

    def __init__(self, name: str, args: IssuerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:kubernetes:Issuer", name, None, opts)
        CustomResource(
            name,
            api_version="cert-manager.io/v1",
            kind="ClusterIssuer",
            metadata=ObjectMetaArgs(
                name=name, labels=labels(name), annotations={"pulumi.com/waitFor": "condition=Ready"}
            ),
            spec={
                "acme": {
                    "email": args.email,
                    "server": args.server,
                    "privateKeySecretRef": {"name": f"{name}-account"},
                    "solvers": [
                        {
                            "selector": {"dnsZones": [args.domain]},
                            "dns01": {"route53": {"region": args.region, "hostedZoneID": args.zone_id}},
                        }
                    ],
                }
            },
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})
