from __future__ import annotations

import pytest
from torch import nn

from fivebyfive import networks
from fivebyfive.lib.text import plain
from fivebyfive.summary.layers import describe


@pytest.fixture(scope="module")
def convnet():
    return describe(networks.build("convnet"), (1, 28, 28), batch_size=512, optimizer="adam")


def test_a_wide_terminal_shows_everything(convnet):
    text = str(convnet)
    assert text.startswith("ConvNet, one image of 1x28x28")
    for part in (
        "conv1",
        "Conv2d",
        "10×24×24",
        "1,000,500",
        "360 k",
        "FLOPs",
        "memory",
        "sees",
        "all",
    ):
        assert part in text
    for part in (
        "7.686 MFLOP",
        "training, 512 images",
        "adam's state",
        "kept activations",
        "workspace",
    ):
        assert part in text


@pytest.mark.parametrize("width", [30, 45, 60, 80, 100])
def test_a_narrow_one_leaves_out_columns_and_cuts_no_number(convnet, width):
    lines = plain(convnet, width).splitlines()
    assert max(map(len, lines)) <= width
    head = lines[1].split()
    assert head[0] == "layer"
    assert ("input" in head) == (width >= 60)
    assert ("memory" in head) == (width >= 80)
    if width >= 45:
        assert {"output", "parameters"} <= set(head)
        assert "…" not in "".join(lines)


def test_names_are_not_taken_for_markup():
    network = nn.Sequential()
    network.add_module("[red]", nn.Flatten())
    assert "[red]" in str(describe(network, (1, 4, 4)))
