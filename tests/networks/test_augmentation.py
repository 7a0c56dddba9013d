"""Random shifts of images, pixel by pixel."""

import pytest
import torch
from torch.nn import functional

from networks.augmentation import shifted

AXES = {
    "hwc": (0, (9, 7, 3)),
    "chw": (1, (3, 9, 7)),
    "stack": (1, (2, 9, 7, 3)),
    "grey": (0, (9, 7)),
}


@pytest.mark.parametrize(("height", "shape"), AXES.values(), ids=AXES)
def test_a_shift_is_a_crop_of_the_padded_image(height: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rows = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    offsets = torch.tensor([[0, 0], [2, -2], [-1, 2], [-2, -2], [1, 0]])
    found = shifted(rows, offsets, height=height + 1)
    assert found.dtype == torch.uint8
    assert torch.equal(found[0], rows[0])
    images = rows.float().movedim((height + 1, height + 2), (-2, -1)).reshape(5, -1, 9, 7)
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    ours = found.float().movedim((height + 1, height + 2), (-2, -1)).reshape(5, -1, 9, 7)
    for image, wide, (y, x) in zip(ours, padded, offsets.tolist(), strict=True):
        assert torch.equal(image, wide[:, 2 + y : 11 + y, 2 + x : 9 + x])
