"""What a load balancer's requests must pass first: a WAF web ACL, its log and its association."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.aws.identity import Statement, policy
from components.aws.scope import Scope
from components.skips import Skip

_COMMON = "AWSManagedRulesCommonRuleSet"
_ANONYMOUS = "AWSManagedRulesAnonymousIpList"
_REPUTATION = "AWSManagedRulesAmazonIpReputationList"
_GROUPS = (_REPUTATION, _COMMON, "AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesSQLiRuleSet")
# Identity documents are larger than the 8 KiB that the first rule allows a body; traders' programs run at
# hosting providers, which the second refuses. Both are counted, so that the log still shows them.
_COUNTED = {_COMMON: ("SizeRestrictions_BODY",), _ANONYMOUS: ("HostingProviderIPList",)}
_WINDOW_SECONDS = 300
# WAF's own bounds of a rate rule.
_RATES = (10, 2_000_000_000)
_TOO_MANY_REQUESTS = 429
# WAF writes only to log groups whose name begins so.
_LOG_PREFIX = "aws-waf-logs-"
_LOGGED_ACTIONS = ("BLOCK", "COUNT", "EXCLUDED_AS_COUNT")


@dataclass(frozen=True)
class FirewallArgs:
    """What is refused, what is logged and whom it protects."""

    scope: Scope
    """Names and account."""
    resource_arn: Input[str]
    """ARN of the load balancer."""
    rate_limit: int
    """Requests that one address may make in five minutes, from 10; more are answered 429."""
    anonymous_ip: bool
    """Refuses VPNs, proxies and Tor."""
    log_key_arn: Input[str]
    """Key of the log; its policy must let CloudWatch Logs use it."""
    log_days: int
    """Days the log is kept; one of CloudWatch's retention periods."""
    secret_headers: Sequence[str] = ("authorization", "cookie", "x-api-key")
    """Headers whose values the log leaves out, in lower case."""
    counted: Mapping[str, Sequence[str]] | None = None
    """Rules that only count, by rule group; by default large bodies and addresses of hosting providers."""


class Firewall(ComponentResource):
    """A regional web ACL: rate rule, address lists, AWS's managed rules; logs what it refuses or counts."""

    web_acl_arn: Output[str]
    """ARN of the web ACL."""

    def __init__(self, name: str, args: FirewallArgs, opts: ResourceOptions | None = None) -> None:
        low, high = _RATES
        if not low <= args.rate_limit <= high:
            raise ValueError(f"rate limit {args.rate_limit}: from {low} to {high} requests in five minutes")
        super().__init__("tradestack:aws:Firewall", name, None, opts)
        child = ResourceOptions(parent=self)
        acl_name = args.scope.name(name, limit=128)
        acl = aws.wafv2.WebAcl(
            name,
            name=acl_name,
            description="What reaches the platform over the internet",
            scope="REGIONAL",
            default_action={"allow": {}},
            rules=_rules(args),
            visibility_config=_visible(acl_name),
            tags=args.scope.tags(acl_name),
            opts=child,
        )
        aws.wafv2.WebAclAssociation(name, resource_arn=args.resource_arn, web_acl_arn=acl.arn, opts=child)
        self.web_acl_arn = acl.arn
        self._log(name, args, acl)
        self.register_outputs({"web_acl_arn": self.web_acl_arn})

    def _log(self, name: str, args: FirewallArgs, acl: aws.wafv2.WebAcl) -> None:
        scope, child = args.scope, ResourceOptions(parent=self)
        log_name = f"{_LOG_PREFIX}{scope.name(name)}"
        log = aws.cloudwatch.LogGroup(
            name,
            name=log_name,
            kms_key_id=args.log_key_arn,
            retention_in_days=args.log_days,
            tags=scope.tags(log_name),
            opts=child,
        )
        deliver = Statement(
            ("logs:CreateLogStream", "logs:PutLogEvents"),
            (scope.arn("logs", f"log-group:{log_name}:*"),),
            {
                "StringEquals": {"aws:SourceAccount": scope.account},
                "ArnLike": {"aws:SourceArn": scope.arn("logs", "*")},
            },
            principals={"Service": "delivery.logs.amazonaws.com"},
            sid="Delivery",
        )
        allowed = aws.cloudwatch.LogResourcePolicy(
            name, policy_name=scope.name(name), policy_document=policy([deliver]), opts=child
        )
        aws.wafv2.WebAclLoggingConfiguration(
            name,
            resource_arn=acl.arn,
            log_destination_configs=[log.arn],
            redacted_fields=[{"single_header": {"name": header}} for header in args.secret_headers],
            logging_filter=_refused_or_counted(),
            opts=ResourceOptions(parent=self, depends_on=[allowed]),
        )


def _rules(args: FirewallArgs) -> list[aws.wafv2.WebAclRuleArgsDict]:
    """Cheapest first: a flood is stopped before its bodies are read."""
    counted = _COUNTED if args.counted is None else args.counted
    groups = [*_GROUPS[:1], *([_ANONYMOUS] if args.anonymous_ip else []), *_GROUPS[1:]]
    rate: aws.wafv2.WebAclRuleArgsDict = {
        "name": "rate",
        "priority": 0,
        "action": {"block": {"custom_response": {"response_code": _TOO_MANY_REQUESTS}}},
        "statement": {
            "rate_based_statement": {
                "aggregate_key_type": "IP",
                "evaluation_window_sec": _WINDOW_SECONDS,
                "limit": args.rate_limit,
            }
        },
        "visibility_config": _visible("rate"),
    }
    managed = [_managed(group, number, counted.get(group, ())) for number, group in enumerate(groups, 1)]
    return [rate, *managed]


def _managed(group: str, priority: int, counted: Sequence[str]) -> aws.wafv2.WebAclRuleArgsDict:
    return {
        "name": group,
        "priority": priority,
        "override_action": {"none": {}},
        "statement": {
            "managed_rule_group_statement": {
                "vendor_name": "AWS",
                "name": group,
                "rule_action_overrides": [{"name": rule, "action_to_use": {"count": {}}} for rule in counted],
            }
        },
        "visibility_config": _visible(group),
    }


def _visible(metric: str) -> aws.wafv2.WebAclRuleVisibilityConfigArgsDict:
    return {"cloudwatch_metrics_enabled": True, "metric_name": metric, "sampled_requests_enabled": True}


def _refused_or_counted() -> aws.wafv2.WebAclLoggingConfigurationLoggingFilterArgsDict:
    """What passes untouched is in the load balancer's own log already."""
    return {
        "default_behavior": "DROP",
        "filters": [
            {
                "behavior": "KEEP",
                "requirement": "MEETS_ANY",
                "conditions": [{"action_condition": {"action": action}} for action in _LOGGED_ACTIONS],
            }
        ],
    }


SKIPS: tuple[Skip, ...] = (
    Skip(
        "CKV_AWS_338",
        "aws:cloudwatch/logGroup:LogGroup",
        "How long refused requests are kept is a setting: thirty days are asked for.",
        "*-firewall",
    ),
)
