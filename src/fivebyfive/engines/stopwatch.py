"""Telling the time of the data from the time of the computing, without making the device wait."""

from __future__ import annotations

import time

import torch

from .interface import Times


class Stopwatch:
    """Called as ``data()`` … ``compute()`` … ``stop()`` once a step; ``read()`` sums up and resets.

    On a CPU the clock is read in between. A CUDA device runs behind the program, so events are put
    into its stream and read only when a stretch is over, when they have long happened. On an MPS
    device the program's own clock is used, which there sees the sending of the work only: the sum
    of both times is right over a stretch, their shares are approximate.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []

    def data(self) -> None:
        """The batch is being made from here on."""
        self._mark("data")

    def compute(self) -> None:
        """The batch is ready; the step is being computed from here on."""
        self._mark("compute")

    def stop(self) -> None:
        """The step is done (or, on a CUDA device, sent)."""
        self._mark("idle")

    def read(self) -> Times:
        """The seconds since the last reading. Waits for the device's last event."""
        if self._device.type == "cuda" and self._marks:
            torch.cuda.synchronize(self._device)
        spent = {"data": 0.0, "compute": 0.0, "idle": 0.0}
        for (phase, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            spent[phase] += _seconds(begin, end)
        self._marks.clear()
        return Times(spent["data"], spent["compute"])

    def _mark(self, phase: str) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append((phase, event))
        else:
            self._marks.append((phase, time.perf_counter()))


def _seconds(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    assert isinstance(begin, torch.cuda.Event)
    assert isinstance(end, torch.cuda.Event)
    return float(begin.elapsed_time(end)) / 1000
