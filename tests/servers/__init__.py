"""Session fixtures of the backing services in `infra.servers`."""
