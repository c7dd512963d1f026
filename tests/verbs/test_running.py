from __future__ import annotations

import signal
from typing import NoReturn

import pytest

from fivebyfive.engines.process_group import ProcessGroup
from fivebyfive.lib.errors import DivergedError, Interrupted, OutOfMemoryError
from fivebyfive.verbs.running import finish


class Second(ProcessGroup):
    """The second of two processes."""

    def __init__(self) -> None:
        super().__init__(1, 2, 1)

    def quit(self, status: int) -> NoReturn:
        raise SystemExit(status)


class Session:
    """Only runs, and fails."""

    processes = Second()

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def started(self, _: None) -> None:
        return None

    def run(self, *_: object, **__: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [(Interrupted(signal.SIGTERM, "stopped"), 143), (DivergedError(0.1, float("nan"), "there"), 1)],
)
def test_an_end_that_all_know_of_is_left_to_the_main_process(
    error: BaseException, status: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        finish(Session(error), None, [], None)  # type: ignore[arg-type]
    assert ended.value.code == status


def test_what_only_this_process_knows_it_tells_itself() -> None:
    with pytest.raises(OutOfMemoryError, match="full"):
        finish(Session(OutOfMemoryError("full")), None, [], None)  # type: ignore[arg-type]
