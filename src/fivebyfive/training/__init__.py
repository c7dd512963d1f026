"""Training: the one loop, the events it sends, and what it needs."""
