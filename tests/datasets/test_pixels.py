import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fivebyfive import datasets
from fivebyfive.datasets.pixels import Pixels
from fivebyfive.lib.errors import DataError


@pytest.fixture(scope="module")
def images():
    return datasets.load("sample").test.images


def pillow(images, side):
    """``[N, 1, S, S]`` to ``[N, 1, side, side]``, by Pillow, one image at a time."""
    resized = [
        Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        for image in images[:, 0].numpy()
    ]
    return torch.from_numpy(np.stack([np.asarray(image) for image in resized]))[:, None]


def test_plain_pixels_are_those_of_to_tensor(images):
    expected = images.to(torch.float32).div(255)
    assert torch.equal(Pixels()(images), expected)
    normalised = expected.sub(0.1307).div(0.3081)
    assert torch.equal(Pixels(mean=0.1307, std=0.3081)(images), normalised)


def test_28_to_224_is_pillows_to_the_pixel(images):
    """Expected: 0 differing pixels of 400 images of 224×224."""
    differing = 0
    for batch in images[:400].split(100):
        differing += int((Pixels(224)(batch) != pillow(batch, 224) / 255).sum())
    assert differing == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
@example(48, 60, 252070642)  # where float32 comes out two grey levels off
def test_any_size_is_pillows(size, side, seed):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (2, 1, size, size), dtype=np.uint8))
    got = Pixels(side)(images)
    assert got.shape == (2, 1, side, side)
    assert torch.equal(got, pillow(images, side) / 255)


def test_channels_are_resized_alike(images):
    colour = images[:6].view(2, 3, 28, 28)
    assert torch.equal(Pixels(40)(colour).view(6, 1, 40, 40), Pixels(40)(images[:6]))


def test_images_are_left_as_they_are(images):
    before = images.clone()
    for pixels in (Pixels(), Pixels(28, 0.5, 0.5), Pixels(56)):
        pixels(images)
    assert torch.equal(images, before)


def test_autocast_doesnt_change_the_pixels(images):
    expected = Pixels(224)(images[:4])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Pixels(224)(images[:4]), expected)


@pytest.mark.parametrize("resize", [None, 28, 64])
def test_shape_tells_what_comes_out(images, resize):
    pixels = Pixels(resize)
    assert pixels(images[:2]).shape[1:] == pixels.shape((1, 28, 28))


def test_only_square_images_are_resized():
    oblong = torch.zeros(2, 1, 6, 5, dtype=torch.uint8)
    assert Pixels()(oblong).shape == (2, 1, 6, 5)
    with pytest.raises(DataError, match="6×5 can't be resized to 9×9"):
        Pixels(9)(oblong)
