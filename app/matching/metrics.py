"""What the matching engine measures."""

from prometheus_client import Counter, Gauge, Histogram

orders_placed = Counter("orders_placed_total", "Orders answered", ["symbol", "side", "outcome"])
order_latency = Histogram(
    "order_latency_seconds",
    "From the queue of the matching engine to the commit",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5),
)
group_size = Histogram(
    "matching_group_size", "Commands in one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
leader = Gauge("matching_leader", "1 while this replica is the leader")
journal_batch = Gauge("matching_journal_batch", "Number of the newest batch of the journal")
unpublished = Gauge("matching_unpublished", "Commands that are committed but not yet on the bus")
book_updates = Counter("matching_book_updates", "Order books published, whole or as changes", ["kind"])
snapshot_batch = Gauge("matching_snapshot_batch", "Batch of the newest snapshot")
recovery_seconds = Gauge("matching_recovery_seconds", "How long the newest recovery took")
