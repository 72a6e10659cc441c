"""Queues, topics, the analytics stream and the functions on them."""

from dataclasses import dataclass

from pulumi import ResourceOptions

from components.aws.analytics import Analytics, AnalyticsArgs
from components.aws.functions import Functions, FunctionsArgs
from components.aws.messaging import Messaging, MessagingArgs
from components.aws.secrets import Rotation
from infra.settings import CloudSettings
from stacks.cloud.foundation import Foundation

CACHE = "cache"
"""Name of the cache, whose retired tokens the rotation function forgets."""


@dataclass(frozen=True)
class Services:
    """What runs without servers of our own."""

    messaging: Messaging
    analytics: Analytics
    functions: Functions
    rotation: Rotation
    """What replaces generated secrets."""


def make_services(settings: CloudSettings, base: Foundation, image: str, opts: ResourceOptions) -> Services:
    """Queues and topics, the stream, and the functions that run `image`."""
    scope, keys, network, storage = base.scope, base.keys, base.network, base.storage
    messaging = Messaging(
        "messaging",
        MessagingArgs(
            scope=scope,
            key_arn=keys.messaging.arn,
            alerts_topic_arn=base.alerts.topic_arn,
            emails=settings.messaging.emails,
            sms=settings.messaging.phones,
        ),
        opts,
    )
    analytics = Analytics(
        "analytics",
        AnalyticsArgs(
            scope=scope,
            key_arn=keys.data.arn,
            log_key_arn=keys.logs.arn,
            log_days=settings.log_days,
            bucket_arn=storage.arns["archive"],
            bucket_key_arn=keys.storage.arn,
            shards=settings.analytics.shards,
            retention_hours=settings.analytics.retention,
            alerts_topic_arn=base.alerts.topic_arn,
            protect=settings.protect,
        ),
        # The bucket is named by its ARN, which says nothing of the order.
        ResourceOptions.merge(opts, ResourceOptions(depends_on=[storage])),
    )
    functions = Functions(
        "functions",
        FunctionsArgs(
            scope=scope,
            image=image,
            architecture="x86_64",
            key_arn=keys.secrets.arn,
            log_key_arn=keys.logs.arn,
            log_days=settings.log_days,
            alerts_topic_arn=base.alerts.topic_arn,
            vpc_id=network.vpc_id,
            subnet_ids=network.private_subnet_ids,
            buckets={purpose: storage.buckets[purpose] for purpose in ("reports", "kyc", "archive")},
            uploads=storage.ready["kyc"],
            storage_key_arn=keys.storage.arn,
            queue_arns=messaging.queue_arns,
            topic_arns=messaging.topic_arns,
            messaging_key_arn=keys.messaging.arn,
            secret_key_arn=keys.secrets.arn,
            retired_secrets=[scope.name(f"{CACHE}-token")],
        ),
        opts,
    )
    return Services(messaging, analytics, functions, Rotation(functions.function_arns["rotation"]))
