"""Memory: what a training will take, and whether that fits."""
