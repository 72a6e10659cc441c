"""The platform's door to the internet: load balancer, certificate, names and firewall."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.alerts import Alarm, make_alarm
from components.aws.computed import computed
from components.aws.firewall import Firewall, FirewallArgs
from components.aws.scope import Scope
from components.skips import Skip

_NAME_LIMIT = 32
_ANYWHERE, _ANYWHERE_V6 = "0.0.0.0/0", "::/0"
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
# The others take TLS 1.1 or, those with `Ext`, ciphers without forward secrecy.
_TLS_POLICY = re.compile(r"ELBSecurityPolicy-TLS13-1-[23](?:-Res)?(?:-FIPS)?(?:-PQ)?-20\d\d-\d\d")
# Bounds of the load balancer's idle timeout; a WebSocket that lives 3600 s must fit.
_IDLE_SECONDS = (1, 4000)
_DEREGISTRATION_SECONDS = (0, 3600)
_HSTS = "max-age=31536000; includeSubDomains"
_METRICS = "AWS/ApplicationELB"


@dataclass(frozen=True)
class EdgeArgs:
    """Where the platform answers and whom it lets in."""

    scope: Scope
    """Names and account."""
    vpc_id: Input[str]
    """VPC of the load balancer."""
    subnet_ids: Sequence[Input[str]]
    """Public subnets, in at least two zones."""
    log_bucket: Input[str]
    """Bucket of its logs, which are below `alb/`, known once its policy is in place; encrypted by S3's own
    key, as ELB demands."""
    domain: str
    """Name at which the platform answers, such as `trade.example.com`."""
    hosted_zone_id: Input[str]
    """Route 53 zone in which that name lies."""
    target_security_group_id: Input[str]
    """Security group of the pods behind it: the cluster's."""
    target_port: int
    """Port of Envoy's pods."""
    health_check_path: str
    """Path that answers 200 on a healthy target, whatever the host header."""
    rate_limit: int
    """Requests that one address may make in five minutes, from 10; more are answered 429."""
    log_key_arn: Input[str]
    """Key of the firewall's log; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days the firewall's log is kept; one of CloudWatch's retention periods."""
    alerts_topic_arn: Input[str]
    """Topic that hears of errors, slowness and sick targets."""
    target_protocol: Literal["HTTP", "HTTPS"] = "HTTP"
    """What the targets speak; the load balancer does not verify their certificate."""
    health_check_port: int | None = None
    """Port of the health check; the target's own by default."""
    client_cidrs: Sequence[str] = (_ANYWHERE,)
    """IPv4 addresses that may connect."""
    ipv6: bool = False
    """Answers over IPv6 too, to anyone; the subnets need IPv6 addresses."""
    redirect_http: bool = False
    """Listens on port 80 as well, only to send browsers to HTTPS; else port 80 is closed."""
    tls_policy: str = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
    """Protocols and ciphers: TLS 1.2 and 1.3, forward secrecy, post-quantum keys where clients can."""
    idle_timeout_seconds: int = 4000
    """Quiet seconds before a connection is closed, 1 to 4000."""
    deregistration_seconds: int = 60
    """Seconds that a leaving pod keeps its connections, 0 to 3600."""
    anonymous_ip: bool = True
    """Refuses VPNs, proxies and Tor."""
    errors_per_minute: int = 10
    """Answers 5xx in a minute, five minutes long, above which it alarms."""
    slowest_seconds: float = 0.1
    """99th percentile of the answer time above which it alarms."""
    protect: bool = False
    """Refuses the deletion of the load balancer, by Pulumi and by AWS."""


class Edge(ComponentResource):
    """An internet-facing application load balancer with TLS, firewall, logs and alarms.

    It sends everything for its domain to one target group of pod addresses, which a TargetGroupBinding fills,
    and answers 404 to any other host. It binds clients to no pod: Envoy does, by the cookie
    TRADING_AFFINITY, and finds the same backend from whichever of its pods a request reaches.
    """

    url: Output[str]
    """Where the platform answers."""
    target_group_arn: Output[str]
    """Target group for Envoy's pods, by address."""
    security_group_id: Output[str]
    """Security group of the load balancer."""
    certificate_arn: Output[str]
    """The certificate, known once it is issued."""
    web_acl_arn: Output[str]
    """The firewall's web ACL."""
    load_balancer_suffix: Output[str]
    """The load balancer as CloudWatch names it."""
    target_group_suffix: Output[str]
    """The target group as CloudWatch names it."""

    def __init__(self, name: str, args: EdgeArgs, opts: ResourceOptions | None = None) -> None:
        _check(args)
        super().__init__("tradestack:aws:Edge", name, None, opts)
        self._name, self._args, self._scope = name, args, args.scope
        self._child = ResourceOptions(parent=self)
        self.security_group_id = self._make_security_group()
        self.certificate_arn = self._make_certificate()
        balancer = self._make_balancer()
        targets = self._make_targets()
        self.target_group_arn = targets.arn
        self.load_balancer_suffix, self.target_group_suffix = balancer.arn_suffix, targets.arn_suffix
        self._listen(balancer, targets)
        self.url = self._make_records(balancer)
        firewall = FirewallArgs(
            scope=args.scope,
            resource_arn=balancer.arn,
            rate_limit=args.rate_limit,
            anonymous_ip=args.anonymous_ip,
            log_key_arn=args.log_key_arn,
            log_days=args.log_days,
        )
        self.web_acl_arn = Firewall(f"{name}-firewall", firewall, self._child).web_acl_arn
        self._watch(balancer, targets)
        self.register_outputs({"url": self.url, "target_group_arn": self.target_group_arn})

    def _tags(self, *parts: str) -> dict[str, str]:
        return self._scope.tags(self._scope.name(self._name, *parts))

    def _make_security_group(self) -> Output[str]:
        args, group_name = self._args, self._scope.name(self._name, limit=255)
        group = aws.ec2.SecurityGroup(
            self._name,
            name=group_name,
            description="Load balancer that faces the internet",
            vpc_id=args.vpc_id,
            tags=self._scope.tags(group_name),
            opts=self._child,
        )
        for number, cidr in enumerate(args.client_cidrs, 1):
            self._rule(f"https-{number}", group.id, "HTTPS from clients", 443, cidr_ipv4=cidr)
            if args.redirect_http:
                self._rule(f"redirect-{number}", group.id, "Redirected to HTTPS", 80, cidr_ipv4=cidr)
        if args.ipv6:
            self._rule("https-ipv6", group.id, "HTTPS over IPv6", 443, cidr_ipv6=_ANYWHERE_V6)
            if args.redirect_http:
                self._rule("redirect-ipv6", group.id, "Redirected to HTTPS", 80, cidr_ipv6=_ANYWHERE_V6)
        for port in sorted({args.target_port, args.health_check_port or args.target_port}):
            aws.vpc.SecurityGroupEgressRule(
                f"{self._name}-targets-{port}",
                security_group_id=group.id,
                referenced_security_group_id=args.target_security_group_id,
                description="Envoy's pods",
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                tags=self._tags("targets"),
                opts=self._child,
            )
            self._rule(
                f"targets-{port}",
                args.target_security_group_id,
                "Load balancer",
                port,
                referenced_security_group_id=group.id,
            )
        return group.id

    def _rule(self, label: str, group: Input[str], what: str, port: int, **source: Input[str]) -> None:
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-{label}",
            security_group_id=group,
            description=what,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            tags=self._tags(label),
            opts=self._child,
            **source,
        )

    def _make_certificate(self) -> Output[str]:
        certificate = aws.acm.Certificate(
            self._name,
            domain_name=self._args.domain,
            validation_method="DNS",
            key_algorithm="EC_prime256v1",
            options=aws.acm.CertificateOptionsArgs(certificate_transparency_logging_preference="ENABLED"),
            tags=self._scope.tags(self._args.domain),
            opts=self._child,
        )
        options = certificate.domain_validation_options
        record = aws.route53.Record(
            f"{self._name}-validation",
            zone_id=self._args.hosted_zone_id,
            name=computed(options, lambda found: str(found[0].resource_record_name)),
            type=computed(options, lambda found: str(found[0].resource_record_type)),
            records=[computed(options, lambda found: str(found[0].resource_record_value))],
            ttl=300,
            opts=self._child,
        )
        issued = aws.acm.CertificateValidation(
            self._name,
            certificate_arn=certificate.arn,
            validation_record_fqdns=[record.fqdn],
            opts=self._child,
        )
        return issued.certificate_arn

    def _make_balancer(self) -> aws.lb.LoadBalancer:
        args, name = self._args, self._scope.name(self._name, limit=_NAME_LIMIT)
        return aws.lb.LoadBalancer(
            self._name,
            name=name,
            load_balancer_type="application",
            internal=False,
            ip_address_type="dualstack" if args.ipv6 else "ipv4",
            subnets=args.subnet_ids,
            security_groups=[self.security_group_id],
            idle_timeout=args.idle_timeout_seconds,
            enable_deletion_protection=args.protect,
            drop_invalid_header_fields=True,
            # The strictest mode would refuse harmless clients too, such as those that send GET with a body.
            desync_mitigation_mode="defensive",
            preserve_host_header=True,
            # Envoy reads addresses there, without ports.
            enable_xff_client_port=False,
            enable_waf_fail_open=False,
            access_logs=aws.lb.LoadBalancerAccessLogsArgs(
                bucket=args.log_bucket, prefix=f"alb/{self._name}-requests", enabled=True
            ),
            connection_logs=aws.lb.LoadBalancerConnectionLogsArgs(
                bucket=args.log_bucket, prefix=f"alb/{self._name}-connections", enabled=True
            ),
            tags=self._scope.tags(name),
            opts=ResourceOptions(parent=self, protect=args.protect),
        )

    def _make_targets(self) -> aws.lb.TargetGroup:
        args = self._args
        # AWS changes neither in place: another name lets the new group take over before the old one goes.
        digest = hashlib.sha256(f"{args.target_protocol} {args.target_port}".encode()).hexdigest()[:6]
        name = self._scope.name(self._name, digest, limit=_NAME_LIMIT)
        return aws.lb.TargetGroup(
            self._name,
            name=name,
            vpc_id=args.vpc_id,
            target_type="ip",
            protocol=args.target_protocol,
            port=args.target_port,
            load_balancing_algorithm_type="least_outstanding_requests",
            deregistration_delay=args.deregistration_seconds,
            stickiness=aws.lb.TargetGroupStickinessArgs(enabled=False, type="lb_cookie"),
            health_check=aws.lb.TargetGroupHealthCheckArgs(
                enabled=True,
                protocol=args.target_protocol,
                port=str(args.health_check_port) if args.health_check_port else "traffic-port",
                path=args.health_check_path,
                matcher="200",
                interval=10,
                timeout=5,
                healthy_threshold=2,
                unhealthy_threshold=3,
            ),
            tags=self._scope.tags(name),
            opts=self._child,
        )

    def _listen(self, balancer: aws.lb.LoadBalancer, targets: aws.lb.TargetGroup) -> None:
        unknown = aws.lb.ListenerDefaultActionArgs(
            type="fixed-response",
            fixed_response=aws.lb.ListenerDefaultActionFixedResponseArgs(
                content_type="text/plain", message_body="Unknown host", status_code="404"
            ),
        )
        https = aws.lb.Listener(
            f"{self._name}-https",
            load_balancer_arn=balancer.arn,
            port=443,
            protocol="HTTPS",
            ssl_policy=self._args.tls_policy,
            certificate_arn=self.certificate_arn,
            default_actions=[unknown],
            routing_http_response_server_enabled=False,
            routing_http_response_strict_transport_security_header_value=_HSTS,
            routing_http_response_x_content_type_options_header_value="nosniff",
            routing_http_response_x_frame_options_header_value="DENY",
            tags=self._tags("https"),
            opts=self._child,
        )
        aws.lb.ListenerRule(
            self._name,
            listener_arn=https.arn,
            priority=1,
            conditions=[
                aws.lb.ListenerRuleConditionArgs(
                    host_header=aws.lb.ListenerRuleConditionHostHeaderArgs(values=[self._args.domain])
                )
            ],
            actions=[aws.lb.ListenerRuleActionArgs(type="forward", target_group_arn=targets.arn)],
            tags=self._tags("domain"),
            opts=self._child,
        )
        if self._args.redirect_http:
            aws.lb.Listener(
                f"{self._name}-redirect",
                load_balancer_arn=balancer.arn,
                port=80,
                protocol="HTTP",
                default_actions=[
                    aws.lb.ListenerDefaultActionArgs(
                        type="redirect",
                        redirect=aws.lb.ListenerDefaultActionRedirectArgs(
                            protocol="HTTPS", port="443", status_code="HTTP_301"
                        ),
                    )
                ],
                tags=self._tags("redirect"),
                opts=self._child,
            )

    def _make_records(self, balancer: aws.lb.LoadBalancer) -> Output[str]:
        alias = aws.route53.RecordAliasArgs(
            name=balancer.dns_name, zone_id=balancer.zone_id, evaluate_target_health=True
        )
        names = [
            aws.route53.Record(
                f"{self._name}-{kind.lower()}",
                zone_id=self._args.hosted_zone_id,
                name=self._args.domain,
                type=kind,
                aliases=[alias],
                opts=self._child,
            ).name
            for kind in (("A", "AAAA") if self._args.ipv6 else ("A",))
        ]
        return Output.concat("https://", names[0])

    def _watch(self, balancer: aws.lb.LoadBalancer, targets: aws.lb.TargetGroup) -> None:
        args = self._args
        whole: Mapping[str, Input[str]] = {"LoadBalancer": balancer.arn_suffix}
        group = {**whole, "TargetGroup": targets.arn_suffix}
        errors = args.errors_per_minute
        alarms = {
            "unhealthy": (
                Alarm(_METRICS, "UnHealthyHostCount", group, above=0, statistic="Maximum", periods=3),
                "A pod of Envoy fails its health check",
            ),
            "target-errors": (
                Alarm(_METRICS, "HTTPCode_Target_5XX_Count", group, above=errors, statistic="Sum"),
                "The platform answers with errors",
            ),
            "balancer-errors": (
                Alarm(_METRICS, "HTTPCode_ELB_5XX_Count", whole, above=errors, statistic="Sum"),
                "The load balancer finds no pod that answers",
            ),
        }
        for label, (alarm, what) in alarms.items():
            make_alarm(
                f"{self._name}-{label}",
                alarm,
                scope=args.scope,
                topic_arn=args.alerts_topic_arn,
                what=what,
                parent=self,
            )
        # make_alarm knows no percentiles.
        alarm_name = args.scope.name(self._name, "slow", limit=255)
        aws.cloudwatch.MetricAlarm(
            f"{self._name}-slow",
            name=alarm_name,
            alarm_description="One answer in a hundred is slower than the platform promises",
            namespace=_METRICS,
            metric_name="TargetResponseTime",
            dimensions=group,
            comparison_operator="GreaterThanThreshold",
            threshold=args.slowest_seconds,
            extended_statistic="p99",
            evaluate_low_sample_count_percentiles="ignore",
            period=60,
            evaluation_periods=5,
            treat_missing_data="notBreaching",
            alarm_actions=[args.alerts_topic_arn],
            ok_actions=[args.alerts_topic_arn],
            tags=args.scope.tags(alarm_name),
            opts=self._child,
        )


def _check(args: EdgeArgs) -> None:
    if not _DOMAIN.fullmatch(args.domain):
        raise ValueError(f"domain '{args.domain}': a name in lower case, such as trade.example.com")
    if not _TLS_POLICY.fullmatch(args.tls_policy):
        raise ValueError(
            f"TLS policy '{args.tls_policy}': one for TLS 1.2 or 1.3 with forward secrecy, "
            "such as ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
        )
    if not args.client_cidrs:
        raise ValueError("client addresses: at least one range, or nobody can connect")
    if not args.health_check_path.startswith("/"):
        raise ValueError(f"health check path '{args.health_check_path}': must begin with /")
    for what, value, (low, high) in (
        ("idle timeout", args.idle_timeout_seconds, _IDLE_SECONDS),
        ("deregistration delay", args.deregistration_seconds, _DEREGISTRATION_SECONDS),
    ):
        if not low <= value <= high:
            raise ValueError(f"{what} {value} s: from {low} to {high}")


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_150",
        "aws:lb/loadBalancer:LoadBalancer",
        "Deletion protection is an argument: a stack that is taken down every night cannot have it.",
    ),
)
