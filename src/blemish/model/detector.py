"""The runtime's one class: loads a model file and scores images through it, without torch."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.conformal.drift import DriftMonitor
from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.frames import Frame
from blemish.imaging.heatmaps import HeatmapScale, overlay
from blemish.imaging.ignore_mask import IgnoreMask, union
from blemish.imaging.images import Picture, read_image
from blemish.imaging.reading import Reading
from blemish.imaging.regions import Region, find_regions
from blemish.imaging.sources import each_image
from blemish.imaging.types import ImageSource
from blemish.io.arguments import one_path, rate, whole
from blemish.io.text import printable
from blemish.model.backends import Graph, Outputs, open_model
from blemish.model.metadata import ModelMetadata
from blemish.model.predictions import Predictions
from blemish.model.preparation import ImagePreparation, PreparedImage
from blemish.model.scored_image import FailedImage, ScoredImage, digest
from blemish.process.deprecation import renamed_arguments, renamed_attribute, warn_renamed
from blemish.process.threads import readers

BATCH_SIZE = 8
MAX_THREADS = 1024

Images = ImageSource | bytes | Iterable[ImageSource] | npt.NDArray[Any]


class Detector:
    """A trained detector. Open one with `Detector.load`; scoring is thread-safe.

    Wherever a method takes images, it takes a path, a PIL image or an array, or several of these:

    * a path, a PIL image, an array (H, W) or an array (H, W, C) with C = 1, 3 or 4 is one image;
    * an array (N, H, W, C), or (N, H, W) whose last side is not 1, 3 or 4 long, is N images;
    * anything else that can be iterated over holds one image an element, of any sizes. A generator is read as it goes.

    Values are uint8 or uint16; those of 16 bits have the depth that the model was trained with. What is neither an
    image nor holds any is an ImageError, raised at once.

    Scores are higher for more anomalous images. scikit-learn has the opposite sign: its `score_samples` and
    `decision_function` are lower for outliers.

    Attributes:
        metadata: what the model file says about itself.
        calibration: calibration scores, threshold and verdicts at the false-alarm rate in force.
        name: the file's name.
        fingerprint: SHA-256 of the file.
        ignore_mask: masks for parts of images to ignore, beside the one inside the model; None for no others.

    Example:
        >>> from blemish import Detector
        >>> detector = Detector.load("screws.onnx")
        >>> detector.metadata.size
        (64, 64)
    """

    def __init__(
        self,
        graph: Graph,
        metadata: ModelMetadata,
        *,
        name: str,
        fingerprint: str,
        ignore_mask: IgnoreMask | None = None,
    ) -> None:
        self._graph = graph
        self._preparation = ImagePreparation(metadata, ignore_mask)
        self.metadata = metadata
        self.calibration = metadata.calibration
        self.name = name
        self.fingerprint = fingerprint
        self.ignore_mask = ignore_mask

    ignore = renamed_attribute("ignore", "ignore_mask")

    @classmethod
    @renamed_arguments(ignore="ignore_mask")
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        false_alarm_rate: float | None = None,
        threads: int | None = None,
        arena: bool = True,
        ignore_mask: str | os.PathLike[str] | None = None,
    ) -> "Detector":
        """Opens a model file written by `blemish train` or `blemish export`, in the runtime it was made for.

        Args:
            path: the .onnx file.
            false_alarm_rate: another rate than the one asked for in training.
            threads: processor threads for the network; all cores unless said otherwise.
            arena: let ONNX Runtime keep the memory of one batch for the next; without, memory falls between batches.
            ignore_mask: a mask, white where pixels are ignored, or a folder with one for each image, see
                `blemish.imaging.ignore_mask`. The score is the maximum elsewhere, which can only be lower: p-values
                stay valid, if anything too high.

        Returns:
            The detector.

        Raises:
            BlemishError: the file is missing, unreadable, no ONNX model or not one of Blemish's; a newer Blemish made
                it; it needs OpenVINO or an arithmetic that is not there; an argument is of another kind; or
                `ignore_mask` is no mask.

        Example:
            >>> detector = Detector.load("screws.onnx", false_alarm_rate=0.1, threads=1)
            >>> detector.calibration.false_alarm_rate
            0.1
        """
        threads = None if threads is None else whole(threads, "the number of threads", least=1, most=MAX_THREADS)
        if false_alarm_rate is not None:
            false_alarm_rate = rate(false_alarm_rate, "the false-alarm rate")
        path = one_path(path, "the model")
        graph, metadata, file_digest = open_model(path, threads=threads, arena=arena)
        masks = None if ignore_mask is None else IgnoreMask(one_path(ignore_mask, "ignore_mask"))
        detector = cls(graph, metadata, name=path.name, fingerprint=file_digest, ignore_mask=masks)
        if false_alarm_rate is not None:
            detector.calibration = replace(detector.calibration, false_alarm_rate=false_alarm_rate)
        return detector

    def __reduce__(self) -> NoReturn:
        """Raises BlemishError: a session of a runtime cannot be copied."""
        raise BlemishError(
            "a Detector cannot be pickled or copied, nor sent to another process: send the model's path, and call "
            "Detector.load there"
        )

    @property
    def scale(self) -> HeatmapScale:
        """The detector's fixed colour scale, widened where another false-alarm rate moves the threshold out of it."""
        low, high, threshold = self.metadata.heatmap_low, self.metadata.heatmap_high, self.calibration.threshold
        margin = 0.05 * (high - low)
        if not np.isfinite(threshold) or threshold <= np.finfo(np.float32).min:
            threshold = low  # every score is anomalous at this rate
        return HeatmapScale(low=min(low, threshold - margin), high=max(high, threshold + margin), threshold=threshold)

    @property
    def reading(self) -> Reading:
        """How images are decoded for this model."""
        return self._preparation.reading

    def predict(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Predictions:
        """Scores images and decides which are anomalous.

        Args:
            images: one image or several, see `Detector`.
            batch_size: images that run through the network together; scores do not depend on it.

        Returns:
            Scores, p-values, verdicts and anomaly maps. Maps are held at network size and enlarged when they are asked
            for, so 1,000 images of any size fit into memory.

        Raises:
            ImageError: an image cannot be read; `predict_iter` goes on after it.

        Example:
            >>> predictions = detector.predict(["part.png", "scratched.png"])
            >>> predictions.verdicts
            ['ok', 'anomalous']
            >>> predictions.maps[1].shape  # float32, at the image's own size
            (64, 64)
            >>> len(detector.predict("part.png"))  # one image needs no list
            1
        """
        return Predictions.of(list(self._scored(images, batch_size)))

    def score(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Predictions:
        """Alias of `predict`, under its first name. (scikit-learn's `score` is a figure of merit; this is not.)"""
        return self.predict(images, batch_size=batch_size)

    def predict_iter(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Iterator[ScoredImage | FailedImage]:
        """Scores images one after another, in order, in flat memory: a few are held at a time, however many come.

        Args:
            images: one image or several, see `Detector`; a generator is read as results are taken.
            batch_size: images that run through the network together; scores do not depend on it.

        Returns:
            An iterator with a result for each image. An image that cannot be read gives a FailedImage.

        Raises:
            ImageError: `images` is neither an image nor holds any; raised at once.

        Example:
            >>> for result in detector.predict_iter(["part.png", "missing.png"]):
            ...     print(result.reason if isinstance(result, FailedImage) else result.verdict)
            ok
            missing.png: no such file
        """
        batch_size = whole(batch_size, "the batch size", least=1, most=sys.maxsize)
        return self._predict_iter(each_image(images), batch_size)

    def score_samples(self, images: Images, *, batch_size: int = BATCH_SIZE) -> npt.NDArray[np.float64]:
        """The score of each image: the maximum of its anomaly map. Higher is more anomalous.

        The sign is the opposite of scikit-learn's `score_samples`, where lower is more anomalous. It is that of PyOD's
        `decision_function`. No map is kept.

        Args:
            images: one image or several, see `Detector`.
            batch_size: images that run through the network together; scores do not depend on it.

        Returns:
            float64 (N,).

        Raises:
            ImageError: an image cannot be read.

        Example:
            >>> good, bad = detector.score_samples(["part.png", "scratched.png"])
            >>> bool(bad > good)
            True
        """
        return np.fromiter((image.score for image in self._scored(images, batch_size)), np.float64)

    def decision_function(self, images: Images, *, batch_size: int = BATCH_SIZE) -> npt.NDArray[np.float64]:
        """The score of each image less the threshold: 0 or more exactly where the verdict is "anomalous".

        The sign is the opposite of scikit-learn's `decision_function`, which is negative for outliers. PyOD's has this
        sign, but nothing subtracted: there the decision is `decision_function(X) > threshold_`.

        Args:
            images: one image or several, see `Detector`.
            batch_size: images that run through the network together; scores do not depend on it.

        Returns:
            float64 (N,), `score_samples(images) - calibration.threshold`.

        Raises:
            ImageError: an image cannot be read.

        Example:
            >>> (detector.decision_function(["part.png", "scratched.png"]) >= 0).tolist()
            [False, True]
        """
        return self.score_samples(images, batch_size=batch_size) - self.calibration.threshold

    def forward(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """Runs the bare graph, without reading, resizing, masks or verdicts.

        Args:
            pixels: uint8 (N, H, W, 3) at network size.

        Returns:
            Anomaly maps float32 (N, H, W), scores float32 (N,) and p-values float32 (N,). The p-values belong to the
            calibration in the file; they do not depend on the false-alarm rate.

        Raises:
            BlemishError: pixels of another kind or shape.

        Example:
            >>> import numpy as np
            >>> maps, scores, p_values = detector.forward(np.zeros((2, 64, 64, 3), np.uint8))
            >>> maps.shape, scores.shape
            ((2, 64, 64), (2,))
        """
        shape = (*self.metadata.size, 3)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            given = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise BlemishError(
                f"the graph takes uint8 pixels {('N', *shape)}, not {given}; predict takes images of any size"
            )
        return self._graph.run(pixels)

    def stream(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Iterator[ScoredImage | FailedImage]:
        """Deprecated: use `predict_iter`."""
        warn_renamed("Detector.stream", "Detector.predict_iter")
        return self.predict_iter(images, batch_size=batch_size)

    def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """Deprecated: use `forward`."""
        warn_renamed("Detector.run", "Detector.forward")
        return self.forward(pixels)

    def explain(self, image: ImageSource, scored: ScoredImage) -> Image.Image:
        """The image with its heatmap, outlined regions and colour bar, on the detector's fixed scale.

        Args:
            image: one image.
            scored: what `predict_iter` gave for it, or one of `Predictions.scored_images`.

        Returns:
            The drawing, somewhat larger than the image.

        Raises:
            BlemishError: `scored` is no ScoredImage, such as a FailedImage, or that of an image of another size.
            ImageError: the image cannot be read, or a file has changed since it was scored.

        Example:
            >>> (scored,) = detector.predict("scratched.png").scored_images
            >>> detector.explain("scratched.png", scored).save("scratched-heatmap.png")
        """
        regions = self.regions(scored)
        picture = read_image(image, self.reading)
        if isinstance(image, str | bytes | os.PathLike | Frame) and not scored.is_of(picture):
            raise ImageError(f"{printable(scored.source)}: it has changed since it was scored; score it again")
        if (picture.height, picture.width) != tuple(scored.size):
            raise BlemishError(
                f"{printable(scored.source)}: the scored image has {scored.size[1]} x {scored.size[0]} pixels, and the "
                f"one to draw {picture.width} x {picture.height}; pass the image that was scored"
            )
        return overlay(picture, scored.anomaly_map, self.scale, regions=regions, ignored=scored.full_ignored())

    def score_again(self, image: Image.Image, *, path: str, source: str) -> ScoredImage | FailedImage:
        """Scores what `read_image` has read of a file: `path` finds its mask, `source` is what it is called.

        Raises ImageError where its mask cannot be read.
        """
        return next(self._score_batch([self._preparation.prepare(Picture(image), path, source)]))

    def regions(self, scored: ScoredImage) -> list[Region]:
        """Where the map reaches the threshold, with p-values; empty exactly when the verdict is not "anomalous".

        Args:
            scored: what `predict_iter` gave, or one of `Predictions.scored_images`.

        Returns:
            The regions, that with the highest peak first.

        Raises:
            BlemishError: `scored` is no ScoredImage, such as a FailedImage.

        Example:
            >>> (scored,) = detector.predict("scratched.png").scored_images
            >>> [region.peak_score == scored.score for region in detector.regions(scored)][:1]
            [True]
        """
        if isinstance(scored, FailedImage):
            raise BlemishError(f"{printable(scored.source)} was not scored: {scored.reason}")
        if not isinstance(scored, ScoredImage):
            raise BlemishError(f"a ScoredImage is needed, as predict_iter gives it, not {type(scored).__name__}")
        threshold = self.calibration.threshold
        found = find_regions(scored.anomaly_map, threshold, size=scored.size)
        if self.metadata.regions is None or not found:
            return found
        p_values = self.metadata.regions.p_values(scored.anomaly_map, threshold)
        return [replace(region, p_value=p_value) for region, p_value in zip(found, p_values, strict=True)]

    def drift_check(self, *, false_alarm_rate: float = 0.01) -> DriftMonitor:
        """A fresh test of whether a stream of images looks as the calibration images did.

        It is fed with scores and `ScoredImage.drift_features`. It takes brightness and sharpness alone where scores are
        not comparable: in a cross-conformal detector, whose left-out scores are not those of its map, and with a mask
        at scoring time that calibration did not have. Scores of a detector with a refit, of an earlier release, can
        only be lower than in calibration, so only higher ones are drift.

        Args:
            false_alarm_rate: probability of an alarm ever, on a stream without drift.

        Returns:
            The test, before the first image.

        Raises:
            BlemishError: the model file has no drift reference, as the first ones had none.
        """
        if not self.metadata.drift_reference:
            raise BlemishError("the model file holds nothing to compare with: train it again")
        comparable = not self.calibration.folds and not self._preparation.masks_are_new
        score = {"score": self.calibration.scores} if comparable else {}
        return DriftMonitor(
            score | dict(self.metadata.drift_reference),
            false_alarm_rate=false_alarm_rate,
            one_sided={"score"} if self.metadata.has_refit else (),
        )

    def _scored(self, images: Images, batch_size: int) -> Iterator[ScoredImage]:
        """Scores images one after another. Raises ImageError for the first that cannot be read."""
        for result in self.predict_iter(images, batch_size=batch_size):
            if isinstance(result, FailedImage):
                raise ImageError(result.reason)
            yield result

    def _predict_iter(self, images: Iterable[ImageSource], batch_size: int) -> Iterator[ScoredImage | FailedImage]:
        batches = _batches(images, batch_size)
        first, second = next(batches, []), next(batches, [])
        if len(first) == 1 and not second:  # starting a thread takes as long as reading a small image
            yield from self._score_batch([self._preparation.read(*first[0])])
            return
        with ThreadPoolExecutor(readers()) as pool:
            # The next batch is read while the network is busy with this one.
            coming, batches = self._submit(pool, first), chain([second], batches)
            while coming:
                prepared = [future.result() for future in coming]
                coming = self._submit(pool, next(batches, []))
                yield from self._score_batch(prepared)

    def _submit(
        self, pool: ThreadPoolExecutor, batch: list[tuple[int, ImageSource]]
    ) -> list[Future[PreparedImage | FailedImage]]:
        return [pool.submit(self._preparation.read, number, image) for number, image in batch]

    def _score_batch(self, batch: Sequence[PreparedImage | FailedImage]) -> Iterator[ScoredImage | FailedImage]:
        pixels = [image.pixels for image in batch if isinstance(image, PreparedImage)]
        maps, scores, _ = self.forward(np.stack(pixels)) if pixels else ((), (), ())
        results = zip(maps, scores, strict=True)
        for image in batch:
            if isinstance(image, FailedImage):
                yield image
            else:
                yield self._judge(image, *next(results))

    def _judge(self, image: PreparedImage, anomaly_map: npt.NDArray[np.float32], score: float) -> ScoredImage:
        """An image's map and score by the graph with its mask, p-value and verdict."""
        if image.ignored is not None:
            anomaly_map = np.where(image.ignored, np.float32(0), anomaly_map)
            score = anomaly_map.max()
        score = float(score)
        return ScoredImage(
            source=image.source,
            score=score,
            # The graph's p-value is the same number in float32, where 0.05 exceeds 0.05: here it can be compared.
            p_value=self.calibration.p_value(score),
            verdict=self.calibration.verdict(score),
            anomaly_map=anomaly_map,
            size=image.size,
            ignored=union(image.ignored, self._preparation.built_in_mask),
            drift_features=image.drift_features,
            remarks=image.remarks,
            pixels_digest=digest(image.pixels),
        )


def _batches(images: Iterable[ImageSource], size: int) -> Iterator[list[tuple[int, ImageSource]]]:
    numbered = enumerate(images)
    while batch := list(islice(numbered, size)):
        yield batch
