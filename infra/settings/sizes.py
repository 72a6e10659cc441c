"""Instance sizes that a stack file may name: current generations, each with a price in the cost table."""

EC2 = (
    *("t3.medium", "t3.large", "t3.xlarge", "t3a.medium", "t3a.large"),
    *("m6i.large", "m6i.xlarge", "m6i.2xlarge", "m7i.large", "m7i.xlarge", "m7i.2xlarge"),
    *("c6i.large", "c6i.xlarge", "c6i.2xlarge", "c7i.large", "c7i.xlarge", "c7i.2xlarge"),
)
"""Nodes; x86-64 only, because the app image is."""

DATABASE = (
    *("db.t3.medium", "db.t3.large", "db.t4g.medium", "db.t4g.large"),
    *("db.m6g.large", "db.m6g.xlarge", "db.m7g.large", "db.m7g.xlarge", "db.m7g.2xlarge"),
    *("db.r6g.large", "db.r6g.xlarge", "db.r6g.2xlarge"),
)

_GIB = {"t3.medium": 4, "t4g.medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32}
"""Memory by the end of a class's name; the r classes have twice as much."""


def database_connections(instance_class: str) -> int:
    """What RDS sets `max_connections` to: the instance's memory by 9,531,392 bytes, at most 5,000.

    Of the memory, RDS and the system keep a part for themselves; a tenth is on the safe side (RDS user guide,
    "Quotas and constraints").
    """
    _, family, size = instance_class.split(".")
    gib = _GIB.get(f"{family}.{size}") or _GIB[size]
    usable = gib * (2 if family.startswith("r") else 1) * 2**30 * 9 // 10
    return min(usable // 9_531_392, 5000)


CACHE = (
    *("cache.t3.micro", "cache.t3.small", "cache.t3.medium"),
    *("cache.t4g.micro", "cache.t4g.small", "cache.t4g.medium"),
    *("cache.m7g.large", "cache.m7g.xlarge", "cache.r7g.large", "cache.r7g.xlarge"),
)

BROKER = ("kafka.t3.small", "kafka.m5.large", "kafka.m5.xlarge", "kafka.m7g.large", "kafka.m7g.xlarge")
