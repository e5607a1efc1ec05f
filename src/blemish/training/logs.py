"""The logs that a configuration asks for, as one log: a training does not end because a log does."""

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from blemish.errors import BlemishError
from blemish.training.config import TrainConfig
from blemish.training.log import NO_LOG, TrainingLog


def open_logs(config: TrainConfig, notify: Callable[[str], None], *, run: str) -> TrainingLog:
    """Opens all logs of a configuration; `NO_LOG` where it asks for none.

    Args:
        config: whose `tensorboard` and `mlflow` say where to log.
        notify: gets a sentence where a log fails later on.
        run: what the training is called, where several are listed.

    Raises:
        BlemishError: the package of a log is missing, or a log cannot be opened.
    """
    logs: list[TrainingLog] = []
    if config.tensorboard is not None:
        from blemish.training.log_tensorboard import TensorBoardLog

        logs.append(TensorBoardLog(config.tensorboard))
    if config.mlflow is not None:
        from blemish.training.log_mlflow import MLflowLog

        logs.append(MLflowLog(config.mlflow, run=run))
    return Logs(logs, notify) if logs else NO_LOG


class Logs:
    """Several logs as one. One that fails is left out from then on, and `notify` gets a sentence.

    Args:
        logs: opened.
        notify: see above.
    """

    def __init__(self, logs: Sequence[TrainingLog], notify: Callable[[str], None]) -> None:
        self._logs = list(logs)
        self._notify = notify

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of a curve."""
        self._each(lambda log: log.scalar(name, value, step))

    def heatmap(self, name: str, picture: Image.Image) -> None:
        """Takes an image under its heatmap."""
        self._each(lambda log: log.heatmap(name, picture))

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Takes values whose distribution is to be shown."""
        self._each(lambda log: log.histogram(name, values))

    def figures(self, figures: Mapping[str, float | str]) -> None:
        """Takes the final figures."""
        self._each(lambda log: log.figures(figures))

    def close(self) -> None:
        """Closes those that have not failed."""
        self._each(lambda log: log.close())

    def _each(self, call: Callable[[TrainingLog], None]) -> None:
        for log in list(self._logs):
            try:
                call(log)
            except BlemishError as error:
                self._logs.remove(log)
                self._notify(f"warning: the log is not complete: {error}")
