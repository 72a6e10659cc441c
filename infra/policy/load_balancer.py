"""Assertions about load balancers."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource, dig
from infra.policy.registry import assertion
from infra.policy.rules import is_set

_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_LISTENER = "aws:lb/listener:Listener"

_TLS_POLICY = "ELBSecurityPolicy-TLS13-"
_OLD_VERSIONS = ("-1-0-", "-1-1-")


@assertion(
    50,
    "Load balancers log, refuse deletion and speak modern TLS only",
    on=[_BALANCER, _LISTENER],
    family="Load balancers",
)
def balancers(item: Resource, estate: Estate) -> Iterator[str]:
    """HTTP only leads to HTTPS; headers that are not valid are dropped."""
    if item.type == _LISTENER:
        yield from _listener(item)
        return
    if not (is_set(item, "accessLogs.enabled") and item.given("accessLogs.bucket")):
        yield "access is not logged"
    if not is_set(item, "enableDeletionProtection"):
        yield "deletion protection is off"
    if item.get("loadBalancerType", "application") == "application" and not is_set(
        item, "dropInvalidHeaderFields"
    ):
        yield "headers that are not valid are passed on"


def _listener(listener: Resource) -> Iterator[str]:
    protocol = listener.get("protocol", "HTTP")
    if protocol in ("HTTPS", "TLS"):
        policy = str(listener.get("sslPolicy"))
        if not policy.startswith(_TLS_POLICY) or any(old in policy for old in _OLD_VERSIONS):
            yield f"the TLS policy {policy} is none of TLS 1.2 and 1.3 only"
    elif protocol == "HTTP":
        for action in listener.items("defaultActions"):
            if dig(action, "redirect.protocol") != "HTTPS":
                yield "the HTTP listener does not redirect to HTTPS"
