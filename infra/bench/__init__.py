"""Benchmarks: each measures one thing in one run and reports it as one JSON object."""
