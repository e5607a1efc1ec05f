"""The paper's last finding on a planted cue: does a detector of dogs learn the watermark on its training photographs?

In the paper's section 4.3 the heatmaps of a detector of Pascal VOC's horses lie on a watermark, which about a fifth of
those photographs carry and no foreign one. Here the watermark is drawn, on a known share of the training photographs
and in a known box: how far it took over can be measured, and there is a detector without it to compare with.
"""

from blemish.experiments.planted.runner import run_planted

__all__ = ["run_planted"]
