from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fivebyfive import networks
from fivebyfive.datasets.splits import Split
from fivebyfive.evaluation.evaluate import Evaluation, evaluate
from fivebyfive.lib.errors import DataError, ShapeError


def scale(images):
    return images.float() / 255


def test_by_hand(verdict, split):
    assert (verdict.correct, verdict.images) == (9, 12)
    assert verdict.accuracy == 0.75
    assert verdict.confusion == ((4, 1, 1, 0), (0, 2, 0, 0), (0, 1, 3, 0), (0, 0, 0, 0))
    assert verdict.accuracies == (4 / 6, 1.0, 0.75, None)
    # Image 3 is as bright as can be and called dark: the surest mistake.
    said = [(m.index, m.label, m.prediction) for m in verdict.mistakes]
    assert said[0] == (3, 0, 2)
    assert sorted(said) == [(2, 0, 1), (3, 0, 2), (9, 2, 1)]
    confidences = [m.confidence for m in verdict.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 < c <= 1 for c in confidences)


def test_the_line_is_the_tutorials():
    verdict = Evaluation(0.03949, 9896, 10000, ("a",), ((9896,),), ())
    assert verdict.line() == "Test set: Average loss: 0.0395, Accuracy: 9896/10000 (99%)"


def test_json_is_plain(verdict):
    values = verdict.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["class_acc"][3] is None
    assert values["mistakes"][0].keys() == {"index", "label", "prediction", "confidence"}
    lost = Evaluation(math.nan, 0, 1, ("a",), ((0,),), ())
    assert lost.as_dict()["test_loss"] is None


def test_confusions_are_the_most_frequent_pairs(verdict):
    assert len(verdict.confusions(2)) == 2
    assert {times for times, _, _ in verdict.confusions(5)} == {1}
    assert (1, "dark", "[grey]") in verdict.confusions(5)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 99))
def test_batches_change_nothing_and_loss_is_the_mean(count, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (count,), generator=generator))
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
    classes = [str(digit) for digit in range(10)]
    verdict = evaluate(network, split, scale, "cross-entropy", classes, batch_size=batch)
    with torch.no_grad():
        scores = network(scale(images))
    assert verdict.loss == pytest.approx(F.cross_entropy(scores, split.labels).item(), rel=1e-5)
    assert verdict.correct == (scores.argmax(1) == split.labels).sum()
    assert sum(map(sum, verdict.confusion)) == count
    assert len(verdict.mistakes) == count - verdict.correct


def test_log_probabilities_give_the_same_verdict_by_their_own_loss(network, split):
    plain = evaluate(network, split, scale)
    with_log = evaluate(nn.Sequential(network, nn.LogSoftmax(1)), split, scale, "nll")
    assert with_log.loss == pytest.approx(plain.loss)
    assert with_log.confusion == plain.confusion
    for one, other in zip(plain.mistakes, with_log.mistakes, strict=True):
        assert one.confidence == pytest.approx(other.confidence)


def test_modes_gradients_and_random_numbers_stay(network, split):
    network.train()
    network.dropout.eval()
    before = torch.get_rng_state()
    evaluate(network, split, scale)
    assert network.training
    assert not network.dropout.training
    assert network.levels.grad is None
    assert torch.equal(torch.get_rng_state(), before)


def test_classes_without_names_go_by_number(network, split):
    assert evaluate(network, split, scale).classes == ("0", "1", "2", "3")
    assert evaluate(network, split, scale, classes=("a", "b", "c")).classes == ("a", "b", "c", "3")


def test_images_of_a_wrong_shape_are_told(split):
    network = networks.build("lenet").train()
    with pytest.raises(ShapeError, match=r"images of 1x4x5.*--input 1x28x28"):
        evaluate(network, split, scale)
    assert network.training


def test_other_failures_pass_through(split):
    class Fails(nn.Module):
        def forward(self, x):
            if x.device.type == "cpu":
                raise RuntimeError("out of luck")
            return x.flatten(1)

    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate(Fails(), split, scale)


@pytest.mark.parametrize("last", [nn.Identity(), nn.Linear(20, 2)])
def test_too_few_scores_are_refused(split, last):
    network = last if isinstance(last, nn.Identity) else nn.Sequential(nn.Flatten(), last)
    with pytest.raises(ShapeError, match="a score for each of 3 classes"):
        evaluate(network, split, scale)


def test_nothing_to_test_on(network, split):
    with pytest.raises(DataError, match="no images"):
        evaluate(network, split.head(0), scale)
