"""From a folder to heatmaps: train on the demo's bricks, evaluate, score test images, draw heatmaps.

    python examples/train_and_predict.py [FOLDER]

About half a minute on two cores. FOLDER (default: example-output) gets the images, the model and the results.
"""

import sys
from pathlib import Path

import blemish
from blemish.datasets.demo import build_demo_set

IMAGE_SIDE = 128  # pixels; 256 is better and takes four times as long


def main(folder: Path) -> None:
    """Writes bricks/, bricks.onnx and a heatmap of each anomalous image to the folder."""
    # The folder has MVTec's layout: train/good, test/good, test/<defect>, ground_truth/<defect>.
    bricks = build_demo_set(folder / "bricks", seed=0)
    # Good images only. A false-alarm rate that the calibration images can support is asked for.
    detector = blemish.train(bricks, folder / "bricks.onnx", size=IMAGE_SIDE, false_alarm_rate=0.05)
    print(detector.calibration.statement())

    metrics = blemish.evaluate(detector, blemish.read_data_set(bricks)).metrics
    print(f"image AUROC {metrics['image_auroc']:.3f}, pixel AUROC {metrics['pixel_auroc']:.3f}")

    # The same file on another machine: pip install blemish, without torch.
    detector = blemish.Detector.load(folder / "bricks.onnx")
    images = sorted((bricks / "test").rglob("*.png"))[::12]
    for image, scored in zip(images, detector.predict(images).scored_images, strict=True):
        print(f"{image.relative_to(bricks)}  score {scored.score:.2f}  p {scored.p_value:.3f}  {scored.verdict}")
        if scored.verdict == "anomalous":
            detector.explain(image, scored).save(folder / f"{image.parent.name}-{image.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
