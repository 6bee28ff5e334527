"""The first signal asks for a graceful stop, the second stops at once."""

import signal
import threading

import pytest

from experiments.runner import Interrupted
from experiments.runner.interruption import Interruption

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_recorded_and_raised_by_check(number, capfd):
    with Interruption() as interruption:
        assert not interruption.requested
        interruption.check()
        signal.raise_signal(number)
        assert interruption.requested
        assert capfd.readouterr().err == (
            "\nstopping at the next safe point (the end of this series or chunk); "
            "interrupt again to stop at once\n"
        )
        with pytest.raises(Interrupted, match=number.name) as raised:
            interruption.check()
    assert raised.value.signal == number


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_stops_at_once(number, capfd):
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert interruption.requested
        with pytest.raises(Interrupted) as raised:
            interruption.check()
    assert raised.value.signal == signal.SIGTERM


def test_the_previous_handlers_are_restored_even_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]
    during = []

    def fail():
        with Interruption():
            during.extend(signal.getsignal(number) for number in SIGNALS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert not {*during} & {*before}


def test_it_does_nothing_outside_the_main_thread():
    seen = []

    def work():
        before = [signal.getsignal(number) for number in SIGNALS]
        with Interruption() as interruption:
            interruption.check()
            seen.append([signal.getsignal(number) for number in SIGNALS] == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
