"""Images are found in rows of every layout; what reads both ways, or is no image, is refused."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks.extractors.images import ImageRows, Unfit
from networks.inputs import make_input

H, W, C, F = 6, 8, 3, 2


def image() -> torch.Tensor:
    """Two observations of two frames, `[N, frames, C, H, W]`, every number once."""
    return torch.arange(2 * F * C * H * W, dtype=torch.float32).reshape(2, F, C, H, W)


LAYOUTS = {
    "chw": (image()[:, 0], (C, H, W)),
    "hwc": (image()[:, 0].permute(0, 2, 3, 1), (H, W, C)),
    "frames chw": (image(), (F, C, H, W)),
    "frames hwc": (image().permute(0, 1, 3, 4, 2), (F, H, W, C)),
}


@pytest.mark.parametrize("given", [False, True], ids=["auto", "given"])
@pytest.mark.parametrize("which", LAYOUTS)
def test_rows_of_every_layout_become_the_same_images(which: str, given: bool) -> None:
    rows, shape = LAYOUTS[which]
    front = ImageRows(shape, layout=which[-3:] if given else "auto")
    frames = F if "frames" in which else 1
    assert (front.channels, front.size) == (frames * C, (H, W))
    images = front(rows.contiguous())
    assert torch.equal(images, image()[:, :frames].flatten(1, 2))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_rows_are_not_copied() -> None:
    rows = image()[:, 0].permute(0, 2, 3, 1).contiguous()
    images = ImageRows((H, W, C), layout="auto")(rows)
    assert images.data_ptr() == rows.data_ptr()


def test_bytes_are_cast_into_that_memory_at_once() -> None:
    for shape in ((H, W, C), (C, H, W)):
        inputs = make_input(spaces.Box(0, 255, shape, np.uint8))
        drawn = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
        rows = inputs(torch.from_numpy(drawn))
        np.testing.assert_array_equal(rows.numpy(), np.float32(drawn) / np.float32(255))
        assert ImageRows(shape, layout="auto")(rows).data_ptr() == rows.data_ptr()


def test_a_grey_image_has_one_channel() -> None:
    rows = image()[:, 0, 0].contiguous()
    for layout in ("auto", "hwc", "chw"):
        front = ImageRows((H, W), layout=layout)
        assert (front.channels, front.size) == (1, (H, W))
        assert torch.equal(front(rows), rows[:, None])


def test_an_image_is_what_an_environment_drew() -> None:
    """A red pixel at row 1, column 4 is that of channel 0, whatever the layout."""
    drawn = np.zeros((1, H, W, C), np.float32)
    drawn[0, 1, 4, 0] = 1.0
    for rows, shape in ((drawn, (H, W, C)), (np.moveaxis(drawn, -1, 1).copy(), (C, H, W))):
        images = ImageRows(shape, layout="auto")(torch.from_numpy(rows))
        assert images.nonzero().tolist() == [[0, 0, 1, 4]]


@pytest.mark.parametrize(
    ("shape", "is_last"),
    [
        ((84, 84, 3), True),
        ((3, 84, 84), False),
        ((4, 84, 84), False),
        ((84, 84, 4), True),
        ((4, 84, 84, 3), True),
        ((84, 96, 1), True),
        ((12, 20, 11), True),
    ],
    ids=str,
)
def test_the_axis_with_the_fewest_is_that_of_channels(shape, is_last: bool) -> None:
    assert ImageRows(shape, layout="auto").is_last is is_last


@pytest.mark.parametrize(
    "shape", [(10, 10, 10), (3, 64, 3), (3, 3, 3), (10, 20, 10), (7, 7, 20), (2, 8, 8, 8)], ids=str
)
def test_what_reads_both_ways_or_neither_is_refused(shape) -> None:
    with pytest.raises(Unfit, match=r"auto cannot tell .*env\.image_layout=hwc .*=chw") as refused:
        ImageRows(shape, layout="auto")
    assert refused.value.option == "layout"


def test_a_layout_that_is_given_settles_it() -> None:
    assert ImageRows((7, 7, 20), layout="hwc").channels == 20
    assert ImageRows((10, 10, 10), layout="hwc").is_last is True
    assert ImageRows((10, 10, 10), layout="chw").is_last is False


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [
        ((4,), "auto", r"shape \(4,\) are a vector, no image"),
        ((1, 2, 3, 4, 5), "auto", "5 dimensions, no image"),
        ((4, 8), "auto", "images of 4x8 pixels, expected at least 5x5"),
        ((5, 4, 1), "auto", "5x4 pixels"),
        ((4, 84, 84), "hwc", r"4x84 pixels.* \(with layout hwc\)"),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused(shape, layout: str, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        ImageRows(shape, layout=layout)
