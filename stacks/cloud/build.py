"""The order in which a stack on AWS comes together."""

import pulumi
import pulumi_aws as aws
import pulumi_random
from pulumi import ResourceOptions

from components.aws.scope import Scope
from infra.settings import NAMESPACES, CloudSettings
from stacks.cloud.compute import kubernetes_provider, make_cluster
from stacks.cloud.foundation import APP_REPOSITORY, make_foundation
from stacks.outputs import Outputs


def build(settings: CloudSettings) -> Outputs:
    """Register every resource of a stack on AWS and return its outputs."""
    stack = pulumi.get_stack()
    scope = Scope(prefix=f"tradestack-{stack}", account=settings.account, region=settings.region)
    tags = _tags(settings, stack)
    provider = aws.Provider(
        "aws",
        region=settings.region,
        # A stack that meets the wrong credentials stops before it changes anything.
        allowed_account_ids=[settings.account],
        default_tags=aws.ProviderDefaultTagsArgs(tags=tags),
    )
    opts = ResourceOptions(providers=[provider, pulumi_random.Provider("random")])
    base = make_foundation(settings, scope, opts)
    cluster = make_cluster(settings, base, tags, opts)
    kubernetes_provider(cluster, ResourceOptions())
    image = f"{base.registry.repository_urls[APP_REPOSITORY]}@{settings.image.digest}"
    return Outputs(
        web=f"https://{settings.domain}",
        namespaces=NAMESPACES,
        endpoints={},
        kubeconfig=cluster.kubeconfig,
        image=image,
    )


def _tags(settings: CloudSettings, stack: str) -> dict[str, str]:
    """Tags of everything; cost allocation goes by them."""
    return {
        "tradestack:stack": stack,
        "tradestack:environment": settings.environment,
        "tradestack:owner": settings.owner,
        "tradestack:managed-by": "pulumi",
    }
