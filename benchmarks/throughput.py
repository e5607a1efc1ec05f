"""Images a second from a folder of images to a folder of results, and where the time outside the network goes.

python benchmarks/throughput.py MODEL.onnx FOLDER [--workers 1 2] [--ray]
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from blemish import Detector
from blemish.imaging.heatmaps import encode_png, overlay
from blemish.imaging.images import read_image
from blemish.imaging.resizing import to_network_size
from blemish.io.files import atomic_write
from blemish.model.detector import BATCH_SIZE
from blemish.model.scored_image import ScoredImage
from blemish.prediction import find_images, predict
from blemish.prediction.engine import CHUNK

REPEATS = 3


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def whole_runs(detector: Detector, folder: Path, worker_numbers: Iterable[int]) -> list[tuple[str, float, float]]:
    """Name, wall and processor time an image of the fastest of some runs, each into a folder of its own."""
    rows = []
    for heatmaps in (False, True):
        for workers in worker_numbers:
            times = []
            for _ in range(REPEATS):
                with tempfile.TemporaryDirectory() as out:
                    cpu = cpu_seconds()
                    done = predict(detector, [folder], out, heatmaps=heatmaps, workers=workers)
                    times.append((done.seconds / done.images, (cpu_seconds() - cpu) / done.images))
            name = f"{'with overlays' if heatmaps else 'scores only'}, {workers} worker{'s' * (workers > 1)}"
            rows.append((name, *min(times)))
    return rows


def parts(detector: Detector, files: list[str]) -> dict[str, float]:
    """Milliseconds of one thread an image, part by part."""
    size = detector.metadata.size
    images = [read_image(file) for file in files]
    pixels = [to_network_size(image, size) for image in images]
    scored = [one for one in detector.predict_iter(files) if isinstance(one, ScoredImage)]
    regions = [detector.regions(one) for one in scored]
    pictures = [
        overlay(image, one.anomaly_map, detector.scale, regions=found)
        for image, one, found in zip(images, scored, regions, strict=True)
    ]
    encoded = [encode_png(picture) for picture in pictures]
    batches = [np.stack(pixels[start : start + BATCH_SIZE]) for start in range(0, len(pixels), BATCH_SIZE)]

    def write(number: int) -> None:
        with atomic_write(Path(folder) / f"{number}.png") as file:
            file.write(encoded[number])

    with tempfile.TemporaryDirectory() as folder:
        return {
            "read and decode": milliseconds(read_image, files),
            "resize": milliseconds(lambda image: to_network_size(image, size), images),
            f"network, {BATCH_SIZE} at a time": milliseconds(detector.run, batches) * len(batches) / len(files),
            "regions": milliseconds(detector.regions, scored),
            "overlay: read and decode again": milliseconds(read_image, files),
            "overlay: draw": milliseconds(
                lambda number: overlay(
                    images[number], scored[number].anomaly_map, detector.scale, regions=regions[number]
                ),
                range(len(files)),
            ),
            "overlay: encode": milliseconds(encode_png, pictures),
            "overlay: write": milliseconds(write, range(len(files))),
        }


def milliseconds(call: Callable[..., object], arguments: Iterable[object]) -> float:
    """Processor time of this thread a call, the least of some repeats."""
    arguments = list(arguments)
    best = np.inf
    for _ in range(REPEATS):
        started = time.thread_time()
        for argument in arguments:
            call(argument)
        best = min(best, (time.thread_time() - started) / len(arguments))
    return 1000 * best


def ray_overhead(model: Path, detector: Detector, folder: Path, workers: int) -> None:
    """Seconds an image on Ray and without, its start apart: what all images take more than a few."""
    import ray

    from blemish.prediction.ray_engine import RayEngine

    images = list(find_images([folder]))
    few = images[: CHUNK * workers]  # a chunk for every actor, so that all of them start
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as out:

        def seconds(paths: list[str], *, on: bool) -> float:
            engine = RayEngine(model, Path(out), workers=workers) if on else None
            runs = (
                predict(detector, paths, out, heatmaps=False, workers=workers, engine=engine) for _ in range(REPEATS)
            )
            return min(run.seconds for run in runs)

        start = seconds(few, on=True)
        there, here = (
            1000 * (seconds(images, on=on) - seconds(few, on=on)) / (len(images) - len(few)) for on in (True, False)
        )
    ray.shutdown()
    print(f"\nScores only, {workers} workers: {there:.2f} ms an image on Ray, {here:.2f} ms without; ", end="")
    print(f"{start:.1f} s on Ray for the first {len(few)} images, the start of the actors included.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--ray", action="store_true", help="also measure Ray with the largest number of workers")
    options = parser.parse_args()
    detector = Detector.load(options.model, threads=1)
    print("| run | images/s | ms an image | processor ms an image |\n|---|---|---|---|")
    for name, wall, cpu in whole_runs(detector, options.folder, options.workers):
        print(f"| {name} | {1 / wall:.0f} | {1000 * wall:.1f} | {1000 * cpu:.1f} |", flush=True)
    print("\n| part, one thread | processor ms an image |\n|---|---|")
    for name, value in parts(detector, list(find_images([options.folder]))[:96]).items():
        print(f"| {name} | {value:.2f} |")
    if options.ray:
        ray_overhead(options.model, detector, options.folder, max(options.workers))


if __name__ == "__main__":
    main()
