"""Scoring any number of images into a folder: a table, heatmaps, regions; killed at any time, it goes on.

The way of the data: `finding` names the images, `journal` keeps the list and the rows on disk, `scoring` makes
rows and pictures of one chunk of images after another (in threads here, or by Ray in `blemish.prediction.ray_engine`),
`tables` writes the files that stay.
"""

from blemish.prediction.listing import find_images, read_list
from blemish.prediction.outputs import RawFormat
from blemish.prediction.run import Frames, Prediction, predict
from blemish.prediction.tables import TableFormat

__all__ = ["Frames", "Prediction", "RawFormat", "TableFormat", "find_images", "predict", "read_list"]
