from __future__ import annotations

import signal
import threading

import pytest

from fivebyfive.training.signals import Interrupted, Stop, StoppedAtOnce


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_wish_the_second_a_command(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        assert stop.requested is None
        signal.raise_signal(number)
        assert stop.requested is number
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(number)
        assert isinstance(caught.value, StoppedAtOnce)
        assert caught.value.signal is number
    assert signal.getsignal(number) is before


def test_where_nothing_can_be_lost_it_acts_at_once() -> None:
    with Stop() as stop:
        with pytest.raises(Interrupted) as caught, stop.may_break():
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.signal is signal.SIGTERM
        with pytest.raises(Interrupted), stop.may_break():
            raise AssertionError("asked before, so not entered")


def test_who_ignores_a_signal_means_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.requested is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_off_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def enter() -> None:
        with Stop():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_handler_that_isnt_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another program has Python in it; it couldn't be put back."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    with Stop():
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGTERM) is before
