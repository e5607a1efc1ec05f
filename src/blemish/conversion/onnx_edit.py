"""Edits of a model file's graph: metadata and calibration, int8 convolutions in the backbone, no refit model."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.io.files import temporary_folder
from blemish.model.description import label
from blemish.model.metadata import ModelMetadata

try:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
except ImportError as error:
    raise BlemishError(f'exports need the package {error.name}: pip install "blemish[export]"') from error

CALIBRATION_SCORES = "calibration_scores"  # the graph's constant behind its p-values
REFIT_MEAN = "head.second.shift"  # ends the name of the mean of the refit model in files of earlier releases
FAR_MEAN = 1e6  # whitened, in standard deviations of nominal images
_BACKBONE = "/backbone/"  # part of the names of the backbone's nodes


def with_metadata(model: bytes, metadata: ModelMetadata) -> bytes:
    """The model file with other metadata, and with p-values from the calibration in them."""
    graph = onnx.load_model_from_string(model)
    for constant in graph.graph.initializer:
        if constant.name == CALIBRATION_SCORES:
            scores = np.asarray(metadata.calibration.scores, dtype=np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(scores, CALIBRATION_SCORES))
            break
    else:
        raise BlemishError("the model's graph holds no calibration scores: train it again")
    label(graph, metadata)
    return graph.SerializeToString(deterministic=True)


def without_refit(model: bytes) -> bytes:
    """The model file without the refit model of earlier releases; a file of this release is returned unchanged.

    The refit model was fitted to training and calibration images, so calibration images score too low with it. Its mean
    is moved so far from all images that it never is the minimum of the two models.
    """
    graph = onnx.load_model_from_string(model)
    for constant in graph.graph.initializer:
        if constant.name.endswith(REFIT_MEAN):
            mean = np.full(list(constant.dims), FAR_MEAN, dtype=np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(mean, constant.name))
    return graph.SerializeToString(deterministic=True)


def backbone_convolutions(model: bytes) -> list[str]:
    """Names of the backbone's convolutions, from the image to the deepest. Raises BlemishError where there is none."""
    nodes = onnx.load_model_from_string(model).graph.node
    names = [node.name for node in nodes if node.op_type == "Conv" and _BACKBONE in node.name]
    if not names:
        raise BlemishError("the model's graph has no convolution that is known to be its backbone's: train it again")
    return names


def quantise(model: bytes, convolutions: Sequence[str], pixels: npt.NDArray[np.uint8]) -> bytes:
    """The model with these convolutions in int8: 8 bits for activations (per tensor), 7 for weights (per channel).

    Everything else stays in float32: a Mahalanobis distance divides by the smallest standard deviations, which are far
    below the step of an 8-bit value. With 8-bit weights, processors without VNNI overflow and others do not; with 7
    bits a model file scores the same on all.

    Args:
        model: an f32 model file.
        convolutions: names of nodes.
        pixels: uint8 images (N, H, W, 3) at network size, from which the ranges of activations are taken.
    """
    with temporary_folder() as folder, _quiet():
        output = folder / "int8.onnx"
        quantize_static(
            onnx.load_model_from_string(model),
            output,
            _Images(pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=list(convolutions),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return output.read_bytes()


class _Images(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Images one at a time, as the quantiser asks for them."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self._images = iter(pixels)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """The next image as the graph's input (1, H, W, 3), or None."""
        image = next(self._images, None)
        return None if image is None else {"pixels": image[None]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the quantiser's advice, which is meant for direct callers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
