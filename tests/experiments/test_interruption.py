"""The first signal is a wish, the second a command, and afterward all is as before."""

import signal
import threading

import pytest

from experiments.runner import Interrupted
from experiments.runner.interruption import Interruption

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_is_noted_and_told_between_chunks(number, capfd):
    with Interruption() as interruption:
        assert not interruption.wanted
        interruption.check()
        signal.raise_signal(number)
        assert interruption.wanted
        assert capfd.readouterr().err == "\nstopping after this chunk; once more to stop at once\n"
        with pytest.raises(Interrupted, match=number.name) as raised:
            interruption.check()
    assert raised.value.signal == number


@pytest.mark.parametrize("number", BOTH)
def test_the_second_signal_stops_at_once(number, capfd):
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert interruption.wanted
        with pytest.raises(Interrupted) as raised:
            interruption.check()
    assert raised.value.signal == signal.SIGTERM


def test_the_handlers_of_before_are_back_even_after_an_error():
    before = [signal.getsignal(number) for number in BOTH]
    during = []

    def fail():
        with Interruption():
            during.extend(signal.getsignal(number) for number in BOTH)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [signal.getsignal(number) for number in BOTH] == before
    assert not {*during} & {*before}


def test_in_another_thread_it_does_nothing():
    seen = []

    def work():
        before = [signal.getsignal(number) for number in BOTH]
        with Interruption() as interruption:
            interruption.check()
            seen.append([signal.getsignal(number) for number in BOTH] == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
