from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fivebyfive.memory.heap import Heap

MB = 1 << 20


def top(*history: tuple[int, int]) -> int:
    heap = Heap()
    heap.replay(history)
    return round(heap.top / MB)


def test_what_lies_side_by_side_adds_up():
    assert top((0, 3 * MB), (1, 2 * MB)) == 5


def test_a_hole_is_filled_again():
    assert top((0, 3 * MB), (1, MB), (0, 0), (2, 2 * MB)) == 4


def test_the_smallest_hole_that_holds_it_is_taken():
    taken = [(0, 5 * MB), (1, MB), (2, 3 * MB), (3, MB)]
    assert top(*taken, (0, 0), (2, 0), (4, 3 * MB), (5, 5 * MB)) == 10


def test_holes_are_kept_apart_within_a_step_and_joined_after_it():
    parts = [(0, MB), (1, MB), (2, MB)]
    freed = [(0, 0), (1, 0)]
    assert top(*parts, *freed, (3, 2 * MB)) == 5  # two holes of one each don't hold it
    heap = Heap()
    heap.replay([*parts, *freed])
    heap.replay([(0, 2 * MB)])
    assert round(heap.top / MB) == 3


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int]]:
    alive, history = [], []
    for number in range(draw(st.integers(1, 25))):
        history.append((number, draw(st.integers(1, 10**7))))
        alive.append(number)
        while alive and draw(st.booleans()):
            history.append((alive.pop(draw(st.integers(0, len(alive) - 1))), 0))
    return history


@settings(deadline=None, max_examples=100)
@given(histories())
def test_it_spans_at_least_what_is_held_and_at_most_all_there_ever_was(history):
    sizes, held, most = dict(entry for entry in history if entry[1]), 0, 0
    for number, size in history:
        held += size or -sizes[number]
        most = max(most, held)
    heap = Heap()
    heap.replay(history)
    assert most <= heap.top <= sum(sizes.values()) + 1000 * len(sizes)
