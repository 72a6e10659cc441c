"""The domain from which the platform sends mail."""

from dataclasses import dataclass
from functools import partial

import pulumi_aws as aws
from pulumi import ComponentResource, Output, ResourceOptions

from components.aws.computed import computed
from components.aws.scope import Scope

_DKIM_KEYS = 3
"""Records of Easy DKIM, always three (SES developer guide, 'Easy DKIM')."""
_TTL_SECONDS = 1800


@dataclass(frozen=True)
class MailArgs:
    """A domain and the zone that proves it."""

    scope: Scope
    """Names and account."""
    domain: str
    """Domain of the senders, such as `trading.example.com`."""
    hosted_zone_id: str
    """Route 53 zone in which the domain lies."""


class Mail(ComponentResource):
    """An SES identity with signed mail, sent over TLS only, and the records that prove it."""

    arns: tuple[str, str]
    """ARNs of the identity and of its configuration set: to send takes the permission for both."""
    sender: str
    """Address that mail comes from."""
    url: str
    """Value of the app's APP_MAIL_URL."""

    def __init__(self, name: str, args: MailArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tradestack:aws:Mail", name, None, opts)
        child = ResourceOptions(parent=self)
        set_name = args.scope.name(name, limit=64)
        made = aws.sesv2.ConfigurationSet(
            name,
            configuration_set_name=set_name,
            delivery_options={"tls_policy": "REQUIRE"},
            reputation_options={"reputation_metrics_enabled": True},
            suppression_options={"suppressed_reasons": ["BOUNCE", "COMPLAINT"]},
            tags=args.scope.tags(set_name),
            opts=child,
        )
        identity = aws.sesv2.EmailIdentity(
            name,
            email_identity=args.domain,
            configuration_set_name=made.configuration_set_name,
            tags=args.scope.tags(args.domain),
            opts=child,
        )
        for number in range(_DKIM_KEYS):
            token = computed(identity.dkim_signing_attributes, partial(_token, number))
            aws.route53.Record(
                f"{name}-dkim-{number + 1}",
                zone_id=args.hosted_zone_id,
                name=Output.concat(token, f"._domainkey.{args.domain}"),
                type="CNAME",
                ttl=_TTL_SECONDS,
                records=[Output.concat(token, ".dkim.amazonses.com")],
                opts=child,
            )
        self.arns = (
            args.scope.arn("ses", f"identity/{args.domain}"),
            args.scope.arn("ses", f"configuration-set/{set_name}"),
        )
        self.sender = f"Tradestack <no-reply@{args.domain}>"
        self.url = f"ses://{args.scope.region}"
        self.register_outputs({"arns": list(self.arns)})


def _token(number: int, found: aws.sesv2.outputs.EmailIdentityDkimSigningAttributes) -> str:
    return (found.tokens or [])[number]
