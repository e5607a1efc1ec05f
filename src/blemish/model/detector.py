"""The runtime's one class: loads a model file and scores images through it, without torch."""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.conformal.drift import DriftCheck, drift_statistics
from blemish.conformal.split import Verdict
from blemish.datasets.network_size import other_shape
from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.frames import Frame
from blemish.imaging.heatmaps import HeatmapScale, overlay
from blemish.imaging.ignore_mask import Ignore, of_record, union
from blemish.imaging.images import Picture, read_image, read_picture
from blemish.imaging.reading import Reading
from blemish.imaging.regions import Region, find_regions
from blemish.imaging.resizing import resize_mask, to_network_size, upscale
from blemish.imaging.sources import each_image
from blemish.imaging.types import ImageSource, Mask
from blemish.io.arguments import one_path, rate, whole
from blemish.io.text import printable
from blemish.model.backends import Graph, open_model
from blemish.model.metadata import ModelMetadata
from blemish.process.threads import readers

BATCH_SIZE = 8
MAX_THREADS = 1024


@dataclass(frozen=True)
class ScoredImage:
    """What the detector says of one image.

    Attributes:
        source: the path, or "image 3" for the fourth image given as pixels.
        score: maximum of the anomaly map; higher is more anomalous, never rescaled.
        p_value: share of nominal images expected to score at least this high, in (0, 1].
        verdict: see `Calibration.verdict`.
        anomaly_map: float32 (H, W) at network size.
        size: (height, width) of the image itself.
        ignored: where the image does not count, bool (H, W) at network size; None where all of it does.
        light: its brightness and sharpness, see `drift_statistics`.
        remarks: what was lost in reading it, a sentence each.
        seen: fingerprint of the pixels at network size, empty where it is not known; see `is_of`.
    """

    source: str
    score: float
    p_value: float
    verdict: Verdict
    anomaly_map: npt.NDArray[np.float32]
    size: tuple[int, int]
    ignored: Mask | None = None
    light: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    seen: str = ""

    def is_of(self, image: Image.Image) -> bool:
        """Whether an image, as `read_image` reads it, is the one that was scored, and not one that took its place."""
        if not self.seen:
            return True
        same_size = (image.height, image.width) == self.size
        return same_size and _fingerprint(to_network_size(image, self.anomaly_map.shape)) == self.seen

    def full_map(self) -> npt.NDArray[np.float32]:
        """The anomaly map at the image's own size, float32 (height, width); 0 where the image does not count."""
        full, ignored = upscale(self.anomaly_map, self.size), self.full_ignored()
        return full if ignored is None else np.where(ignored, np.float32(0), full)

    def full_ignored(self) -> Mask | None:
        """Where the image does not count, bool (height, width) at its own size."""
        return None if self.ignored is None else resize_mask(self.ignored, self.size, rule="corner")


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be scored, and why in one sentence."""

    source: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """Scores of N images: float64 (N,) scores and p-values, N verdicts, N float32 maps at each image's own size."""

    scores: npt.NDArray[np.float64]
    p_values: npt.NDArray[np.float64]
    verdicts: list[Verdict]
    maps: list[npt.NDArray[np.float32]]


class Detector:
    """A trained detector. Use `Detector.load`; scoring is thread-safe.

    Attributes:
        metadata: what the model file says about itself.
        calibration: calibration scores, threshold and verdicts at the false-alarm rate in force.
        name: the file's name.
        fingerprint: SHA-256 of the file.
        ignore: masks for parts of images that do not count, beside the one inside the model.
    """

    def __init__(self, graph: Graph, metadata: ModelMetadata, *, name: str, fingerprint: str) -> None:
        self._graph = graph
        self.metadata = metadata
        self.calibration = metadata.calibration
        self.name = name
        self.fingerprint = fingerprint
        self.ignore: Ignore | None = None
        self._built_in = of_record(metadata.ignored, metadata.size)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        false_alarm_rate: float | None = None,
        threads: int | None = None,
        arena: bool = True,
        ignore: str | os.PathLike[str] | None = None,
    ) -> "Detector":
        """Opens a model file written by `blemish train` or `blemish export`, in the runtime it was made for.

        Args:
            path: the .onnx file.
            false_alarm_rate: another rate than the one asked for in training.
            threads: processor threads for the network; all cores unless said otherwise.
            arena: let ONNX Runtime keep the memory of one batch for the next; without, memory falls between batches.
            ignore: a mask, white where images do not count, or a folder with one for each, see
                `blemish.imaging.ignore_mask`. The
                score is the maximum elsewhere, which can only be lower: p-values stay valid, if anything too high.

        Raises:
            BlemishError: the file is missing, unreadable, no ONNX model or not one of Blemish's; it needs OpenVINO or
                an arithmetic that is not there; an argument is of another kind; or `ignore` is no mask.
        """
        threads = None if threads is None else whole(threads, "the number of threads", least=1, most=MAX_THREADS)
        if false_alarm_rate is not None:
            false_alarm_rate = rate(false_alarm_rate, "the false-alarm rate")
        path = one_path(path, "the model")
        graph, metadata, digest = open_model(path, threads=threads, arena=arena)
        detector = cls(graph, metadata, name=path.name, fingerprint=digest)
        detector.ignore = None if ignore is None else Ignore(one_path(ignore, "ignore"))
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
        """How images are read for this model."""
        settings = self.metadata.settings
        return Reading(bits=self.metadata.bits, seen=settings.get("bits", self.metadata.bits) is not None)

    def score(
        self, images: ImageSource | Iterable[ImageSource] | npt.NDArray[Any], *, batch_size: int = BATCH_SIZE
    ) -> Scores:
        """Scores images of any sizes: paths, PIL images, or arrays (H, W) or (H, W, C) of uint8 or uint16.

        One image may be given without a list around it. An array is one image or a batch: (H, W, C) with C = 1, 3 or 4
        is one, (N, H, W, C) and other (N, H, W) are N. 16-bit values have the depth that the model was trained with.
        Raises ImageError for the first image that cannot be read; `stream` goes on after it.
        """
        scored = []
        for result in self.stream(images, batch_size=batch_size):
            if isinstance(result, FailedImage):
                raise ImageError(result.reason)
            scored.append(result)
        return Scores(
            scores=np.array([one.score for one in scored], dtype=np.float64),
            p_values=np.array([one.p_value for one in scored], dtype=np.float64),
            verdicts=[one.verdict for one in scored],
            maps=[one.full_map() for one in scored],
        )

    def stream(
        self, images: ImageSource | Iterable[ImageSource] | npt.NDArray[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[ScoredImage | FailedImage]:
        """Scores images one after another, in order, holding a few at a time, however many there are.

        What may be given is said at `score`. Raises ImageError at once for what is neither an image nor holds any.
        """
        batch_size = whole(batch_size, "the batch size", least=1, most=sys.maxsize)
        return self._stream(each_image(images), batch_size)

    def _stream(self, images: Iterable[ImageSource], batch_size: int) -> Iterator[ScoredImage | FailedImage]:
        batches = _batches(images, batch_size)
        first, second = next(batches, []), next(batches, [])
        if len(first) == 1 and not second:  # starting a thread takes as long as reading a small image
            yield from self._score_batch([self._read(*first[0])])
            return
        with ThreadPoolExecutor(readers()) as pool:
            # The next batch is read while the network is busy with this one.
            coming, batches = self._submit(pool, first), chain([second], batches)
            while coming:
                read = [future.result() for future in coming]
                coming = self._submit(pool, next(batches, []))
                yield from self._score_batch(read)

    def explain(self, image: ImageSource, scored: ScoredImage) -> Image.Image:
        """The image with its heatmap, outlined regions and colour bar, on the detector's fixed scale.

        Args:
            image: one image.
            scored: what `stream` gave for it.

        Raises:
            BlemishError: `scored` is no ScoredImage, such as a FailedImage, or that of an image of another size.
            ImageError: the image cannot be read, or a file is not the one any more that was scored.
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
        return overlay(
            picture,
            scored.anomaly_map,
            self.scale,
            regions=regions,
            ignored=scored.full_ignored(),
        )

    def score_again(self, image: Image.Image, *, path: str, source: str) -> ScoredImage | FailedImage:
        """Scores what `read_image` has read of a file: `path` finds its mask, `source` is what it is called.

        Raises ImageError where its mask cannot be read.
        """
        return next(self._score_batch([self._prepared(Picture(image), path, source)]))

    def regions(self, scored: ScoredImage) -> list[Region]:
        """Where the map reaches the threshold, with p-values; empty exactly when the verdict is not "anomalous".

        Raises BlemishError for what is no ScoredImage, such as a FailedImage.
        """
        if isinstance(scored, FailedImage):
            raise BlemishError(f"{printable(scored.source)} was not scored: {scored.reason}")
        if not isinstance(scored, ScoredImage):
            raise BlemishError(f"a ScoredImage is needed, as stream gives it, not {type(scored).__name__}")
        threshold = self.calibration.threshold
        found = find_regions(scored.anomaly_map, threshold, size=scored.size)
        if self.metadata.regions is None or not found:
            return found
        p_values = self.metadata.regions.p_values(scored.anomaly_map, threshold)
        return [replace(region, p_value=p_value) for region, p_value in zip(found, p_values, strict=True)]

    def drift_check(self, *, false_alarm_rate: float = 0.01) -> DriftCheck:
        """A fresh test of whether a stream of images looks as the calibration images did, fed with `watched`.

        Only light and focus are watched where scores are not comparable: in a cross-conformal detector, whose left-out
        scores are not those of its map, and with a mask at scoring time that calibration did not have. With the second
        opinion of earlier releases scores can only be lower than in calibration, so only higher ones are drift.

        Raises BlemishError where the model file is from before there was one.
        """
        if not self.metadata.drift_reference:
            raise BlemishError("the model file holds nothing to compare with: train it again")
        comparable = not self.calibration.folds and not self._masks_are_new
        score = {"score": self.calibration.scores} if comparable else {}
        return DriftCheck(
            score | dict(self.metadata.drift_reference),
            false_alarm_rate=false_alarm_rate,
            higher_only={"score"} if self.metadata.has_refit else (),
        )

    def run(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The bare graph: uint8 (N, H, W, 3) at network size to maps (N, H, W), scores (N,), p-values (N,).

        The p-values belong to the calibration in the file, whatever the false-alarm rate. Raises BlemishError for
        pixels of another kind.
        """
        shape = (*self.metadata.size, 3)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            given = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise BlemishError(
                f"the graph takes uint8 pixels {('N', *shape)}, not {given}; score takes images of any size"
            )
        return self._graph.run(pixels)

    def _score_batch(self, read: "Sequence[_Read | FailedImage]") -> Iterator[ScoredImage | FailedImage]:
        good = [one for one in read if isinstance(one, _Read)]
        results = iter(zip(*self.run(np.stack([one.pixels for one in good]))[:2], strict=True)) if good else iter(())
        for one in read:
            if isinstance(one, FailedImage):
                yield one
                continue
            anomaly_map, score = next(results)
            if one.ignored is not None:
                anomaly_map = np.where(one.ignored, np.float32(0), anomaly_map)
                score = anomaly_map.max()
            # The graph's p-value is the same number in float32, where 0.05 exceeds 0.05: here it can be compared.
            p_value, verdict = self.calibration.p_value(float(score)), self.calibration.verdict(float(score))
            yield ScoredImage(
                one.source,
                float(score),
                p_value,
                verdict,
                anomaly_map,
                one.size,
                union(one.ignored, self._built_in),
                one.light,
                one.remarks,
                _fingerprint(one.pixels),
            )

    @property
    def _masks_are_new(self) -> bool:
        """Whether masks are given for scoring that training and calibration did not have."""
        record = self.metadata.ignored
        return self.ignore is not None and (record is None or record["everywhere"])

    def _submit(
        self, pool: ThreadPoolExecutor, batch: "list[tuple[int, ImageSource]]"
    ) -> "list[Future[_Read | FailedImage]]":
        return [pool.submit(self._read, number, image) for number, image in batch]

    def _read(self, number: int, image: ImageSource) -> "_Read | FailedImage":
        path = os.fsdecode(image) if isinstance(image, str | bytes | os.PathLike) else None
        source = f"image {number}" if path is None else path
        if isinstance(image, Frame):
            path, source = image.path, str(image)
        try:
            return self._prepared(read_picture(image, self.reading, name=source), path, source)
        except ImageError as error:
            return FailedImage(source, str(error))

    def _prepared(self, picture: Picture, path: str | None, source: str) -> "_Read | FailedImage":
        """What the network sees of an image; ``path`` finds its mask. Raises ImageError for the mask."""
        ignored = None if self.ignore is None else self.ignore.mask(path, self.metadata.size)
        if ignored is not None and ignored.all():
            return FailedImage(source, f"{printable(source)}: its mask leaves nothing to look at")
        pixels = to_network_size(picture.image, self.metadata.size)
        without = self._built_in if self._masks_are_new else union(ignored, self._built_in)
        light = drift_statistics(pixels, 0.0, ignored=without) if self.metadata.drift_reference else {}
        watched = {name: light[name] for name in self.metadata.drift_reference}
        ratio = self.metadata.settings.get("image_ratio")
        shape = other_shape(picture.size, ratio) if ratio else None
        remarks = (*picture.remarks, f"{printable(source)}: {shape}") if shape else picture.remarks
        return _Read(source, pixels, picture.size, ignored, watched, remarks)


@dataclass(frozen=True)
class _Read:
    source: str
    pixels: npt.NDArray[np.uint8]  # (H, W, 3) at network size
    size: tuple[int, int]
    ignored: Mask | None  # (H, W), besides the model's own
    light: Mapping[str, float]
    remarks: tuple[str, ...]


def _fingerprint(pixels: npt.NDArray[np.uint8]) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def _batches(images: Iterable[ImageSource], size: int) -> Iterator[list[tuple[int, ImageSource]]]:
    numbered = enumerate(images)
    while batch := list(islice(numbered, size)):
        yield batch
