"""The description in a model file for programs without Blemish: its input, its outputs and how to decide.

It is written beside the metadata, as text and as JSON, and never read back: the metadata and the graph are what counts.
"""

import json
from typing import Any

from blemish.model.metadata import METADATA_KEY, ModelMetadata

DESCRIPTION_KEY = "blemish.description"


def label(model: Any, metadata: ModelMetadata) -> None:
    """Writes metadata and description into an `onnx.ModelProto`, in the place of all that it held of the kind."""
    del model.metadata_props[:]
    texts = {METADATA_KEY: metadata.to_json(), DESCRIPTION_KEY: json.dumps(described(metadata), sort_keys=True)}
    for key, value in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.doc_string = in_words(metadata)


def described(metadata: ModelMetadata) -> dict[str, Any]:
    """Input, outputs and decision as JSON values."""
    height, width = metadata.size
    calibration = metadata.calibration
    return {
        "input": {
            "name": "pixels",
            "type": "uint8",
            "shape": ["n", "height", "width", 3] if metadata.any_size else ["n", height, width, 3],
            "layout": "NHWC",
            "colour_order": "RGB",
            "range": [0, 255],
            "normalised": False,
        },
        "preparation": {
            "orientation": "turn upright by EXIF",
            "grey": "the same value three times",
            "transparency": "lay over white",
            "wide_values": f"value >> {metadata.bits - 8}, at most 255, for values of more than 8 bits",
            "resize": {
                "in_graph": metadata.any_size,
                "size": [height, width],
                "keeps_aspect": False,
                "filter": "bilinear, antialiased: a triangle as wide as the reduction, as in Pillow's Image.resize "
                "with Resampling.BILINEAR; not OpenCV's INTER_LINEAR, which is not antialiased",
            },
        },
        "outputs": {
            "anomaly_map": {"type": "float32", "shape": ["n", height, width], "meaning": "how anomalous a pixel is"},
            "score": {"type": "float32", "shape": ["n"], "meaning": "largest value of the map"},
            "p_value": {
                "type": "float32",
                "shape": ["n"],
                "meaning": "share of good images that score at least as high, from the calibration images",
            },
        },
        "decision": {
            "anomalous": "score >= threshold",
            "threshold": calibration.threshold,
            "unsure": "threshold > score >= unsure_threshold",
            "unsure_threshold": calibration.unsure_threshold,
            "false_alarm_rate": calibration.effective_rate,
        },
    }


def in_words(metadata: ModelMetadata) -> str:
    """The same as text, for the file's doc_string."""
    height, width = metadata.size
    one = described(metadata)
    resize = one["preparation"]["resize"]["filter"]
    if metadata.any_size:
        shape, sizing = "(n, height, width, 3), any height and width", "The graph resizes it itself."
    else:
        shape = f"(n, {height}, {width}, 3)"
        sizing = f"Resize it whole to {height} x {width} (height x width), whatever its aspect. Filter: {resize}."
    decision = one["decision"]
    return f"""Anomaly detector made by Blemish.

Input: pixels, uint8 {shape}: n images, rows from top to bottom, red, green, blue, 0 to 255, not normalised.
Of an image file: turn it upright by its EXIF orientation. Convert it to 8-bit RGB: a grey value counts three times,
transparency is laid over white, a value of more than 8 bits becomes {one["preparation"]["wide_values"].split(",")[0]}.
{sizing}

Outputs: anomaly_map, float32 (n, {height}, {width}), how anomalous each pixel is.
score, float32 (n,), the largest value of the map. Higher is more anomalous.
p_value, float32 (n,), the share of good images that score at least as high.

Decision: an image is anomalous where score >= {decision["threshold"]!r}. At most {decision["false_alarm_rate"]:.4g} of
good images are, on average over calibration sets. Below {decision["unsure_threshold"]!r} it is ok, in between unsure.
"""
