from infra.servers.process import *  # noqa: F403
