"""A model file as a torch module with gradients.

The file is all there is of a detector, and it may come from an older version or from a backbone that this one does
not know. So the module is made from the graph itself, not from our own networks with the graph's weights.
"""

from pathlib import Path

import onnx
import onnx.utils
import onnxruntime
from onnx2torch import convert
from torch import nn

from blemish.errors import BlemishError
from blemish.io.files import temporary_folder
from blemish.io.text import printable


def differentiable(model: Path) -> nn.Module:
    """The model as a module from grey levels float (1, H, W, 3) to the anomaly map (1, H, W).

    Raises BlemishError for a graph with operators that have no gradient, such as an int8 export's.
    """
    try:
        module: nn.Module = convert(_to_the_map(model)).eval()
    except NotImplementedError as error:
        raise BlemishError(
            f"{printable(model)}: its graph cannot be differentiated ({error}); measure the model that blemish train "
            "wrote"
        ) from error
    return module.requires_grad_(False)


def _to_the_map(model: Path) -> onnx.ModelProto:
    """The graph for one image, up to the anomaly map, with all that is constant worked out."""
    with temporary_folder() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_free_dimension_override_by_name("n", 1)  # so that shapes are constants too
        options.optimized_model_filepath = f"{folder}/simple.onnx"
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        simple = onnx.load(options.optimized_model_filepath)
    graph = onnx.utils.Extractor(simple).extract_model(["pixels"], ["anomaly_map"])
    for node in graph.graph.node:
        # An input left out at the end may be named "" or not at all; onnx2torch knows only the latter.
        if node.op_type == "Clip" and node.input[-1] == "":
            node.input.pop()
    return graph
