"""A stack on AWS, from its keys to its workloads."""
