"""Colours that images share at one place, against planted stamps and counting."""

import numpy as np
import pytest

from blemish.auditing import colours
from blemish.auditing.association import find_associations
from blemish.auditing.colours import find_colours
from helpers.audit_images import clouds, first_of_side, nothing_unseen


class TestColours:
    @staticmethod
    def stamp(pixels: np.ndarray, rng: np.random.Generator) -> None:
        """Orange cells at the lower right, others on each image."""
        cells = rng.random((len(pixels), 8, 16)) < 0.5
        area = pixels[:, 216:240, 192:240]
        area[np.kron(cells, np.ones((1, 3, 3))) > 0] = (250, 140, 30)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_stamp_that_is_another_on_each_image_is_found_by_its_colour(self, anomalous_side):
        rng = np.random.default_rng(0)
        pixels, anomalous = clouds(0, 60), np.arange(60) >= 30
        stamped = first_of_side(anomalous, anomalous_side, 8)
        some = pixels[stamped]
        self.stamp(some, rng)
        pixels[stamped] = some
        found = find_associations(find_colours(pixels, unseen=nothing_unseen(pixels)), anomalous)[0]
        assert np.flatnonzero(found.cue.carriers).tolist() == stamped.tolist()
        assert found.p_value < 0.01
        assert "rgb(252 140 28)" in found.cue.what
        rows, columns = np.nonzero(found.cue.region)
        assert rows.min() >= 208
        assert columns.min() >= 192

    def test_a_colour_that_is_common_around_is_nothing(self):
        rng = np.random.default_rng(1)
        pixels = clouds(1, 60)
        for one in range(12):  # a patch somewhere near
            row, column = rng.integers(40, 190, 2)
            pixels[one, row : row + 20, column : column + 20] = (250, 140, 30)
        assert find_colours(pixels, unseen=nothing_unseen(pixels)) == []

    def test_what_is_hidden_is_not_compared(self):
        pixels = clouds(2, 30)
        self.stamp(pixels[:8], np.random.default_rng(2))
        unseen = nothing_unseen(pixels)
        unseen[:8, 210:245, 190:245] = True
        assert find_colours(pixels, unseen=unseen) == []

    def test_who_holds_a_colour_is_what_counting_says(self):
        rng = np.random.default_rng(3)
        coded = rng.integers(-1, 20, (3, 256, 256)).astype(np.int32)
        found = set(zip(*(part.tolist() for part in colours.holders(coded)), strict=True))
        slow = set()
        for image in range(3):
            for block in range(256):
                row, column = divmod(block, 16)
                values = coded[image, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                slow |= {(image, block, c) for c in range(20) if (values == c).sum() >= colours.MIN_PIXELS}
        assert found == slow
