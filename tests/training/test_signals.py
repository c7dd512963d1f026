from __future__ import annotations

import signal
import threading

import pytest

from fivebyfive.lib.errors import StoppedAtOnce
from fivebyfive.training.control import Control
from fivebyfive.training.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_wish_the_second_a_command(number: signal.Signals) -> None:
    found = signal.signal(number, signal.default_int_handler)  # nohup has SIGHUP ignored
    before = signal.getsignal(number)
    control = Control()
    with Signals(control):
        assert not control.stopped
        signal.raise_signal(number)
        assert control.stopped
        assert control.signal is number
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(number)
        assert isinstance(caught.value, StoppedAtOnce)
        assert caught.value.signal is number
    assert signal.getsignal(number) is before
    signal.signal(number, found)


def test_who_ignores_a_signal_means_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        control = Control()
        with Signals(control):
            signal.raise_signal(signal.SIGHUP)
            assert not control.stopped
    finally:
        signal.signal(signal.SIGHUP, before)


def test_off_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def enter() -> None:
        with Signals(Control()):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_handler_that_isnt_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another program has Python in it; it couldn't be put back."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    with Signals(Control()):
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGTERM) is before
