"""Writing the one model file: the torch module as ONNX, with the metadata inside."""

import io
import logging
import warnings
from pathlib import Path

import onnx
import torch

from blemish.files import atomic_write
from blemish.model_file import METADATA_KEY, ModelMetadata
from blemish.networks.network import CalibratedNetwork, DetectorNetwork

OPSET = 17


def export_onnx(network: DetectorNetwork, metadata: ModelMetadata, path: Path) -> None:
    """Writes the network with its calibration as an ONNX file of one input and three outputs.

    Input `pixels` uint8 (N, H, W, 3) at network size, N free; outputs `anomaly_map` float32 (N, H, W), `score`
    float32 (N,) and `p_value` float32 (N,). Raises BlemishError when the file cannot be written.
    """
    graph = onnx.load_model_from_string(
        to_onnx(CalibratedNetwork(network, metadata.calibration.scores), network.features.size)
    )
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    with atomic_write(path) as file:
        file.write(graph.SerializeToString(deterministic=True))


def to_onnx(module: CalibratedNetwork, size: tuple[int, int]) -> bytes:
    """The module as the bytes of an ONNX model without metadata, on whatever device it is."""
    pixels = torch.zeros(2, *size, 3, dtype=torch.uint8)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracer warns of shapes it keeps fixed; only the batch is free here, and a test runs it at several sizes.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module.cpu().eval(),
            (pixels,),
            buffer,  # type: ignore[arg-type]  # the signature names paths only; the exporter takes files too
            input_names=["pixels"],
            output_names=["anomaly_map", "score", "p_value"],
            dynamic_axes={name: {0: "n"} for name in ("pixels", "anomaly_map", "score", "p_value")},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
