"""Real PostgreSQL, Redis, Kafka and roles as processes on loopback, for benchmarks and tests."""
