"""Asking a run to stop, with real signals to this process."""

import signal
import threading
from time import sleep

import pytest

from zoo.train.stop import StopRequest

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_asks(number: signal.Signals) -> None:
    request = StopRequest()
    with request.listen():
        assert (request.asked, request.signal) == (False, None)
        signal.raise_signal(number)
        assert (request.asked, request.signal) == (True, number)


@pytest.mark.parametrize("first", BOTH)
def test_a_second_sigterm_is_none(first: signal.Signals) -> None:
    request = StopRequest()
    with request.listen():
        for number in (first, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
    assert request.signal == first


@pytest.mark.parametrize("first", BOTH)
def test_a_second_interrupt_stops_at_once(first: signal.Signals) -> None:
    request = StopRequest()
    with request.listen():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert request.signal == first


@pytest.mark.parametrize("first", BOTH)
def test_one_that_a_launcher_passes_on_is_no_second_one(first: signal.Signals) -> None:
    request = StopRequest(patience=60)
    with request.listen():
        for number in (first, signal.SIGINT, signal.SIGINT):
            signal.raise_signal(number)
    assert request.signal == first


def test_after_some_patience_it_is() -> None:
    request = StopRequest(patience=0.2)
    with request.listen():
        signal.raise_signal(signal.SIGINT)
        sleep(0.25)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_patience_begins_with_the_first_signal() -> None:
    request = StopRequest(patience=0.3)
    with request.listen():
        signal.raise_signal(signal.SIGINT)
        sleep(0.2)
        signal.raise_signal(signal.SIGTERM)
        sleep(0.2)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_go_where_they_went_before() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    request = StopRequest()
    with pytest.raises(RuntimeError, match=r"^an error of the run$"), request.listen():
        assert [signal.getsignal(number) for number in BOTH] != before
        raise RuntimeError("an error of the run")
    assert [signal.getsignal(number) for number in BOTH] == before


def test_in_another_thread_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    found: list[object] = []

    def listen() -> None:
        with StopRequest().listen():
            found.extend(signal.getsignal(number) for number in BOTH)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == before
