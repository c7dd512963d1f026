"""``--tensorboard``: event files that TensorBoard opens."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from ..lib.errors import FiveByFiveError
from ..training.events import ChunkDone, EpochDone, Event, Started
from .rows import row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# What is written at a mark and after an epoch, with its name in metrics.jsonl.
MARK = {"loss/train": "train_loss", "accuracy/train": "train_acc"}
EPOCH = {
    "loss/test": "test_loss",
    "accuracy/test": "test_acc",
    **{f"speed/{name}": name for name in ("images_per_s", "images_per_s_compute", "data_share")},
}


class TensorBoard:
    """Writes scalars into the run folder; their step counts the optimizer's steps since the start.

    ``loss/train``, ``accuracy/train`` at the marks; ``loss/test``, ``accuracy/test``,
    ``speed/images_per_s``, ``speed/images_per_s_compute``, ``speed/data_share`` every epoch.

    Raises:
        FiveByFiveError: the package ``tensorboard`` isn't installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise FiveByFiveError(
                "--tensorboard needs the package tensorboard, which isn't installed. "
                "Install it with: pip install tensorboard"
            )
        self._writer: SummaryWriter | None = None
        self._steps = 1

    def on(self, event: Event) -> None:
        """Write the event's scalars."""
        match event:
            case Started():
                # Only here: PyTorch's module imports tensorboard, which takes a second.
                from torch.utils.tensorboard import SummaryWriter

                # A resumed training writes all its points again and hides those of before: a kill
                # may have taken some along, or come after some that are trained again.
                # Absolute, as it opens its file anew for each write.
                folder = None if event.run is None else event.run.absolute()
                self._writer = SummaryWriter(folder, purge_step=0 if event.past else None)
                self._steps = event.steps
                for past in event.past:
                    self._take(past)
            case ChunkDone(mark=True) | EpochDone():
                if (values := row(event)) is not None:
                    self._take(values)
            case _:
                pass

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _take(self, values: dict[str, Any]) -> None:
        """Write the scalars of a row of ``metrics.jsonl``."""
        if values["event"] == "mark":
            step, scalars = (values["epoch"] - 1) * self._steps + values["step"], MARK
        elif values["event"] == "epoch":
            step, scalars = values["epoch"] * self._steps, EPOCH
        else:
            return
        for name, key in scalars.items():
            if self._writer is not None and values[key] is not None:
                self._writer.add_scalar(name, values[key], step)
