from infra.servers.backing import *  # noqa: F403
