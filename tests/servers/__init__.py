"""Real PostgreSQL, Redis and Kafka processes for tests: free loopback ports, temporary directories."""
