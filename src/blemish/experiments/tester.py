"""The test of a trained method: scores, heatmaps and AUROC on the test images of a task."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.evaluation.metrics import PixelMetrics, auroc
from blemish.experiments.augmentation import Preparation
from blemish.experiments.data.tasks import Task
from blemish.experiments.methods import Method
from blemish.experiments.recipe import Mode
from blemish.imaging.resizing import upscale

TEST_BATCH = 64


class Tester:
    """Scores the test images of a task and measures AUROC.

    Args:
        at_most: every k-th image of each label only, so that about these are scored; None for all. Where there are
            masks all are.
        swap_roles: the class of interest is on the anomalous side.

    Attributes:
        anomalous: bool (T,) labels of the images scored.
    """

    def __init__(
        self,
        task: Task,
        preparation: Preparation,
        device: torch.device,
        *,
        swap_roles: bool = False,
        at_most: int | None = None,
    ) -> None:
        self._task, self._preparation, self._device = task, preparation, device
        step = 1 if at_most is None or task.masks is not None else -(-len(task.test) // at_most)
        by_label = (torch.nonzero(task.anomalous == label).flatten().tolist() for label in (False, True))
        self.indices = sorted(index for indices in by_label for index in indices[::step])
        self.anomalous: NDArray[np.bool_] = task.anomalous[self.indices].numpy() ^ swap_roles

    def image_auroc(self, method: Method) -> float:
        """Image-level AUROC."""
        return auroc(self.anomalous, self.scores(method))

    def scores(self, method: Method) -> NDArray[np.float32]:
        """Scores (T,), float32."""
        method.network.eval()
        with torch.inference_mode():
            batches = [method.scores(inputs).float().cpu() for _, inputs in self._inputs()]
        return torch.cat(batches).numpy()

    @torch.no_grad()
    def maps(self, method: Method, indices: list[int]) -> NDArray[np.float32]:
        """Heatmaps (n, S, S) of some test images."""
        method.network.eval()
        batches = [method.maps(inputs).float().cpu() for _, inputs in self._inputs(indices)]
        return torch.cat(batches).numpy()

    @torch.no_grad()
    def pixel_auroc(self, method: Method, *, mode: Mode) -> float | None:
        """Pixel-level AUROC over all test images at the masks' own sizes; None where there are no masks.

        The heatmaps are enlarged bilinearly; in the mode "paper" with the nearest pixel, as the reference does.
        """
        if self._task.masks is None:
            return None
        method.network.eval()
        with PixelMetrics() as metrics:
            for indices, inputs in self._inputs():
                for index, heatmap in zip(indices, method.maps(inputs).float().cpu().numpy(), strict=True):
                    mask = self._task.masks.read(index).numpy()
                    metrics.update(_enlarge(heatmap, mask.shape, mode), mask)
            return metrics.compute().auroc

    def _inputs(self, indices: list[int] | None = None) -> Iterator[tuple[list[int], Tensor]]:
        indices = self.indices if indices is None else indices
        for start in range(0, len(indices), TEST_BATCH):
            batch = indices[start : start + TEST_BATCH]
            inputs = torch.stack([self._preparation.test(self._task.test.read(index)) for index in batch])
            yield batch, inputs.to(self._device).contiguous(memory_format=torch.channels_last)


def _enlarge(heatmap: NDArray[np.float32], size: tuple[int, ...], mode: Mode) -> NDArray[np.float32]:
    if mode == "corrected":
        return upscale(heatmap, (size[0], size[1]))
    enlarged: NDArray[np.float32] = F.interpolate(torch.from_numpy(heatmap)[None, None], size=size)[0, 0].numpy()
    return enlarged
