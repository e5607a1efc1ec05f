"""Predictions for several images, with anomaly maps that are enlarged when they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from blemish.conformal.split import Verdict
from blemish.model.scored_image import ScoredImage


class AnomalyMaps(Sequence[npt.NDArray[np.float32]]):
    """The anomaly maps of N images, each float32 (height, width) at its image's own size.

    Only maps at network size are held. `maps[i]` enlarges one anew each time; a slice is an `AnomalyMaps` again. So
    1,000 images of 12 megapixels, whose enlarged maps take 48 GB, take 0.3 GB with a network of 256 x 256 pixels.

    Args:
        scored: what the detector said of each image.
    """

    def __init__(self, scored: Sequence[ScoredImage]) -> None:
        self._scored = tuple(scored)

    def __len__(self) -> int:
        return len(self._scored)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> "AnomalyMaps": ...

    def __getitem__(self, index: int | slice) -> "npt.NDArray[np.float32] | AnomalyMaps":
        """The map of one image at its own size, or the maps of several."""
        if isinstance(index, slice):
            return AnomalyMaps(self._scored[index])
        return self._scored[index].full_map()

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return (scored.full_map() for scored in self._scored)

    def __repr__(self) -> str:
        return f"<{len(self)} anomaly maps, {self.nbytes / 1e6:.1f} MB at network size>"

    @property
    def nbytes(self) -> int:
        """Bytes that the maps at network size take."""
        return sum(scored.anomaly_map.nbytes for scored in self._scored)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a detector says of N images.

    Attributes:
        scores: float64 (N,), the maximum of each anomaly map. Higher is more anomalous, the opposite of scikit-learn's
            sign.
        p_values: float64 (N,), the share of nominal images expected to score at least this high, in (0, 1].
        verdicts: N times "ok", "unsure" or "anomalous", see `Calibration.verdict`.
        maps: N anomaly maps, float32 (height, width) at each image's own size, enlarged when they are asked for.
        scored_images: N times all that is known of an image, for `Detector.regions` and `Detector.explain`.

    Example:
        >>> predictions = detector.predict(["part.png", "scratched.png"])
        >>> predictions.scores.shape, predictions.maps
        ((2,), <2 anomaly maps, 0.0 MB at network size>)
    """

    scores: npt.NDArray[np.float64]
    p_values: npt.NDArray[np.float64]
    verdicts: list[Verdict]
    maps: Sequence[npt.NDArray[np.float32]]
    scored_images: tuple[ScoredImage, ...]

    @classmethod
    def of(cls, scored: Sequence[ScoredImage]) -> "Predictions":
        """Gathers what the detector said of each image."""
        return cls(
            scores=np.array([image.score for image in scored], dtype=np.float64),
            p_values=np.array([image.p_value for image in scored], dtype=np.float64),
            verdicts=[image.verdict for image in scored],
            maps=AnomalyMaps(scored),
            scored_images=tuple(scored),
        )

    def __len__(self) -> int:
        return len(self.scored_images)


Scores = Predictions  # the name of 0.1.0
