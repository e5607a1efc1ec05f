"""From pixels to maps: a frozen feature extractor at one network size, and the grid of the anomaly map."""

from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.networks.extractor import FeatureExtractor, Size

STRIDE = 8  # pixels between two cells of the anomaly map before it is upsampled, at least


class FeaturePyramid(nn.Module):
    """The maps of a frozen extractor for images of one size.

    Args:
        extractor: is not trained, and prepared for the size.
        size: network size (height, width), multiples of what the extractor takes.
        stride: pixels between two cells of the anomaly map, at least.

    Attributes:
        channels: length C_k of the vectors of each map.
        fields: the tiles of the cells of each map, the finest first.
        field: those of the anomaly map's cells: the finest map's of that stride or more.

    Raises:
        BlemishError: the extractor does not take images of that size.
    """

    def __init__(self, extractor: FeatureExtractor, *, size: Size, stride: int = STRIDE) -> None:
        super().__init__()
        check_multiple(size, extractor)
        self.extractor = extractor.prepared(size)
        self.size = size
        self.channels = extractor.channels
        self.fields = extractor.fields(size)
        self.field = next((field for field in self.fields if field.vertical.stride >= stride), self.fields[-1])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps (N, C_k, h_k, w_k) of uint8 pixels (N, H, W, 3) at network size."""
        maps = self.extractor(pixels.permute(0, 3, 1, 2).float())
        # Float32 from here on also under mixed precision: quadratic forms need the digits.
        return [one.float() for one in maps]


def check_multiple(size: Size, extractor: FeatureExtractor) -> None:
    """Raises BlemishError where a backbone does not take images of that size."""
    multiple = extractor.multiple
    if any(side % multiple or not side for side in size):
        nearest = "x".join(str(max(1, round(side / multiple)) * multiple) for side in size)
        raise BlemishError(
            f"{extractor.name} takes sizes that are multiples of {multiple} on both sides, such as {nearest}, not "
            f"{size[0]}x{size[1]}"
        )
