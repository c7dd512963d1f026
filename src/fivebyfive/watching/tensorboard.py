"""``--tensorboard``: event files that TensorBoard opens."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ..errors import FiveByFiveError
from ..training.events import EpochDone, Event, Started, Stretch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


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
                'Install it with: pip install "fivebyfive[tensorboard]"'
            )
        self._writer: SummaryWriter | None = None
        self._steps = 1

    def on(self, event: Event) -> None:
        """Write the event's scalars."""
        match event:
            case Started():
                # Only here: PyTorch's module imports tensorboard, which takes a second.
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(event.run)
                self._steps = event.steps
            case Stretch(mark=True):
                step = (event.epoch - 1) * self._steps + event.step
                self._write(step, "loss/train", event.train_loss)
                self._write(step, "accuracy/train", event.train_acc)
            case EpochDone():
                step = event.epoch * self._steps
                self._write(step, "loss/test", event.test_loss)
                self._write(step, "accuracy/test", event.test_acc)
                for name, value in vars(event.speed).items():
                    self._write(step, f"speed/{name}", value)
            case _:
                pass

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: int, name: str, value: float) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)
