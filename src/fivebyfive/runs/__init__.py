"""The run folder, what a training leaves behind: written, opened, and resumed.

    run.json            recipe, data digests, environment, state, and the result once there is one
    metrics.jsonl       a row a mark, an epoch and a notice
    model.safetensors   the weights after the last finished epoch
    curves.png          train loss, train accuracy and test accuracy
    checkpoints/        where the training can go on from, see checkpoints.py
    lock                held by the process that trains

Every file but the growing log is written whole or not at all. Nothing here runs code or reads a
pickle; all of it can be read with JSON and safetensors alone.
"""

from .run import Run, load

__all__ = ["Run", "load"]
