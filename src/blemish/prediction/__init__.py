"""Scoring any number of images into a folder: a table, heatmaps, regions. A run that was killed can be resumed.

The way of the data: `listing` names the images, `journal` keeps the list and the rows on disk, `engine` makes rows and
output files of one chunk of images after another (`ThreadEngine` in threads here, `ray_engine` on a cluster), `tables`
writes the table and the regions. `run` is the entry.
"""

from blemish.prediction.listing import find_images, read_list
from blemish.prediction.outputs import MapFormat
from blemish.prediction.run import Frames, Prediction, predict
from blemish.prediction.tables import TableFormat

__all__ = ["Frames", "MapFormat", "Prediction", "TableFormat", "find_images", "predict", "read_list"]
