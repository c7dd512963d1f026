"""How far two right ways of computing in float32 may be apart; nothing here is measured.

A number is rounded to within one unit roundoff of itself, ``u = 2**-24`` (IEEE 754; Higham,
"Accuracy and stability of numerical algorithms", chapter 2). Two sums of the same ``n`` terms in
another order differ by at most ``n * u`` of the terms' magnitudes (chapter 4.2). As roundings are
as often up as down they differ by about ``sqrt(n) * u``, which is what long trainings are held to.
"""

from __future__ import annotations

import math

UNIT_ROUNDOFF = 2.0**-24

#: The terms that LeNet adds up on the way from an image to a score: 25, 150, 400, 120 and 84.
LENET_DEPTH = 779
#: The terms of its longest sum for one image: a gradient of the first convolution has 28 × 28.
LENET_TERMS = 28 * 28


def at_most(terms: int) -> float:
    """The most that two sums of so many numbers may differ, beside the numbers' magnitudes."""
    return terms * UNIT_ROUNDOFF


def of_sum(terms: int) -> float:
    """How much two sums of so many numbers differ, likewise, where roundings are random."""
    return math.sqrt(terms) * UNIT_ROUNDOFF


def of_training(steps: int, batch: int) -> float:
    """The relative difference, after so many steps of LeNet, of losses and of the largest weight.

    Each step adds its own: that of the sums over the batch's images.
    """
    return (steps + 1) * of_sum(batch * LENET_TERMS)
