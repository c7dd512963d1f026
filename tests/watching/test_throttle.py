import pytest

from fivebyfive.watching.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("cost", "wait"), [(0.001, 0.25), (0.1, 2.0)])
def test_waits_the_least_time_or_until_drawing_is_a_small_share(cost, wait):
    clock = Clock()
    pace = Throttle(least=0.25, share=0.05, clock=clock)
    assert pace.due()
    with pace.drawing():
        clock.now = cost
    assert not pace.due()
    clock.now = cost + wait - 0.01
    assert not pace.due()
    clock.now = cost + wait
    assert pace.due()
