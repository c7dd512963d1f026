"""Summary: a network's layers with shapes and costs, computed without running it."""
