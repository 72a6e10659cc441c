"""Assertions about topics and queues."""

from collections.abc import Iterator

from infra.policy.model import Estate, Resource
from infra.policy.registry import assertion
from infra.policy.rules import customer_key, open_statements, statements, unread

_TOPIC = "aws:sns/topic:Topic"
_TOPIC_POLICY = "aws:sns/topicPolicy:TopicPolicy"
_QUEUE = "aws:sqs/queue:Queue"
_QUEUE_POLICY = "aws:sqs/queuePolicy:QueuePolicy"


@assertion(
    47,
    "Topics and queues are encrypted, not public, and nothing in a queue is lost",
    on=[_TOPIC, _QUEUE],
    family="Messaging",
)
def channels(item: Resource, estate: Estate) -> Iterator[str]:
    """A queue has a dead-letter queue, or is one."""
    if not customer_key(item, "kmsMasterKeyId", estate):
        yield "there is no customer key"
    policies = (
        estate.users(item, "arn", _TOPIC_POLICY)
        if item.type == _TOPIC
        else estate.users(item, "queueUrl", _QUEUE_POLICY)
    )
    for policy in [item, *policies]:
        if not policy.given("policy"):
            continue
        if statements(policy.get("policy")) is None:
            yield unread("the policy")
        for name in open_statements(policy.get("policy")):
            yield f"the statement {name} of the policy allows everybody"
    if item.type == _QUEUE and not (item.given("redrivePolicy") or _is_dead_letter(item, estate)):
        yield "there is no dead-letter queue"


def _is_dead_letter(queue: Resource, estate: Estate) -> bool:
    if queue.given("redriveAllowPolicy"):
        return True
    return any(queue.urn in other.sources("redrivePolicy") for other in estate.of(_QUEUE))
