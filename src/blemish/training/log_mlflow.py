"""A training log as a run of MLflow, on a server or in a folder."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from blemish.errors import BlemishError

BINS = 30  # of a histogram, equally wide
EXPERIMENT = "blemish"  # unless MLFLOW_EXPERIMENT_NAME names another one
# What MLflow reads while it runs, unless the user has set it: a server that is not there is given up after seconds
# instead of minutes, and a folder may be written, which MLflow 3 otherwise refuses in favour of a database.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


class MLflowLog:
    """Writes one run; it is "finished" once it has its final figures, and "failed" if it is closed before.

    `blemish.process.privacy` switches MLflow's own usage statistics off: it goes where the user says and nowhere else.

    Args:
        uri: of the tracking server, a database or a folder, as MLflow takes it.
        run: the name of the run.

    Raises:
        BlemishError: MLflow is missing, or the place cannot be written.
    """

    def __init__(self, uri: str, *, run: str) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise BlemishError('an MLflow log needs the package mlflow: pip install "blemish[mlflow]"') from error
        self._uri = uri
        self._finished = False
        with self._faults_as_sentences():
            self._client = MlflowClient(tracking_uri=uri)
            experiment = _experiment(self._client, os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
            self._run: str = self._client.create_run(experiment, run_name=run).info.run_id

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of a metric's curve."""
        with self._faults_as_sentences():
            self._client.log_metric(self._run, name, value, step=step)

    def heatmap(self, name: str, picture: Image.Image) -> None:
        """Takes an image under its heatmap, as an artifact in "heatmaps"."""
        with self._faults_as_sentences():
            self._client.log_image(self._run, picture, f"heatmaps/{name}.png")

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Takes values as a JSON file, and their histogram as a picture: MLflow has no histograms."""
        from matplotlib.figure import Figure  # not pyplot, which would start a window system

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xlabel=name, ylabel="images")
        axes.hist(values, bins=BINS)
        with self._faults_as_sentences():
            self._client.log_figure(self._run, figure, f"{name}.png")
            self._client.log_dict(self._run, {name: list(values)}, f"{name}.json")

    def figures(self, figures: Mapping[str, float | str]) -> None:
        """Takes the final figures: numbers as metrics, and words as parameters."""
        with self._faults_as_sentences():
            from mlflow.entities import Metric, Param

            now = time.time_ns() // 1_000_000
            words = [Param(name, value) for name, value in figures.items() if isinstance(value, str)]
            numbers = [Metric(name, value, now, 0) for name, value in figures.items() if not isinstance(value, str)]
            self._client.log_batch(self._run, metrics=numbers, params=words)
            self._finished = True

    def close(self) -> None:
        """Ends the run."""
        with self._faults_as_sentences():
            self._client.set_terminated(self._run, "FINISHED" if self._finished else "FAILED")

    @contextmanager
    def _faults_as_sentences(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError, ImportError) as error:  # SQLAlchemy is missing where a database is named
            reason = without_credentials(" ".join(str(error).split()), self._uri)
            place = without_credentials(self._uri, self._uri)
            raise BlemishError(f"{place}: the MLflow log cannot be written: {reason}") from None


def without_credentials(text: str, uri: str) -> str:
    """The text with "***" for the user and the password of a URI, which may be anywhere in it."""
    try:
        parts = urlsplit(uri)
        credentials, at, _ = parts.netloc.rpartition("@")
        secrets = [f"{credentials}@", parts.password]
    except ValueError:  # brackets that are no address
        return text.replace(uri, "the URI")
    if not at:
        return text
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***@" if secret.endswith("@") else "***")
    return text


def _experiment(client: Any, name: str) -> str:
    """The identifier of an experiment, which is made where there is none of this name."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))
