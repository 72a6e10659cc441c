"""The embedded Kubernetes: a real single-node cluster of named, separate instances on one Linux machine."""
