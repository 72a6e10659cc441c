"""Assertions about the record of what was done in the account."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import customer_key, is_set

_TRAIL = "aws:cloudtrail/trail:Trail"


def _trails(estate: Estate) -> list[Resource]:
    """The trails of a stack on AWS; the stack itself where it has none."""
    if not estate.cloud:
        return []
    return estate.of(_TRAIL) or estate.root


@assertion(49, "Everything done in the account is recorded, in every region", on=_trails, family="Audit")
def trail(item: Resource, estate: Estate) -> Iterator[str]:
    """Validated, under a customer key, and in CloudWatch too."""
    if item.type != _TRAIL:
        yield "there is no trail"
        return
    if not is_set(item, "isMultiRegionTrail"):
        yield "the trail covers one region only"
    if not is_set(item, "enableLogFileValidation"):
        yield "log files are not validated"
    if item.get("enableLogging", True) is not True:
        yield "the trail is stopped"
    if not customer_key(item, "kmsKeyId", estate):
        yield "the trail has no customer key"
    if not (item.given("cloudWatchLogsGroupArn") and item.given("cloudWatchLogsRoleArn")):
        yield "the trail does not go to CloudWatch"
