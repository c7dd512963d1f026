"""Evaluation: how well a trained network does, by class, and where it errs."""
