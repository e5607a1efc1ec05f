"""Prometheus metrics of one service."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from blemish.model.detector import Detector
from blemish.model.scored_image import ScoredImage
from blemish.serving.monitoring import DriftStream, SmallPValues
from blemish.serving.schemas import ScoreAnswer

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
P_VALUES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
VERDICTS = ("ok", "unsure", "anomalous")


class Metrics:
    """Counters and histograms in a registry of their own; all series of all models exist from the start.

    Args:
        models: the detectors by name.
    """

    def __init__(self, models: Mapping[str, Detector]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._seconds = Histogram(
            "blemish_request_seconds",
            "Time from a request's header to the end of its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self._requests = Counter("blemish_requests", "Requests answered.", ["endpoint", "status"], registry=registry)
        self._waits = Histogram(
            "blemish_queue_seconds", "Time an image waited to be scored.", buckets=SECONDS, registry=registry
        )
        self._verdicts = Counter("blemish_verdicts", "Images scored.", ["model", "verdict"], registry=registry)
        self._unreadable = Counter(
            "blemish_unreadable_images", "Images that could not be read.", ["model"], registry=registry
        )
        self._stopped = Counter(
            "blemish_stopped_images", "Images whose work was ended: too slow, or their client left.", registry=registry
        )
        self._deaths = Counter(
            "blemish_decoder_deaths", "Decoding processes that ended on an image, and were replaced.", registry=registry
        )
        self._p_values = Histogram(
            "blemish_p_value",
            "p-values of scored images; uniform while images look as the calibration's do.",
            ["model"],
            buckets=P_VALUES,
            registry=registry,
        )
        self._small = {name: SmallPValues() for name in models}
        self._streams = {name: DriftStream(detector) for name, detector in models.items()}
        self._begin(models)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts one request."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def waited(self, seconds: float) -> None:
        """Counts one image's time in the queue."""
        self._waits.observe(seconds)

    def scored(self, model: str, answer: ScoreAnswer | ScoredImage) -> None:
        """Counts one scored image."""
        self._verdicts.labels(model, answer.verdict).inc()
        self._p_values.labels(model).observe(answer.p_value)
        self._small[model].observe(answer.p_value)
        self._streams[model].observe(answer)

    def unreadable(self, model: str) -> None:
        """Counts one image that could not be read."""
        self._unreadable.labels(model).inc()

    def stopped(self) -> None:
        """Counts one image whose work was ended before it was done."""
        self._stopped.inc()

    def decoder_died(self) -> None:
        """Counts one decoding process that ended on an image."""
        self._deaths.inc()

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def watch_queue(self, queued: Callable[[], int], capacity: int) -> None:
        """Shows how many images are accepted and not yet scored, and how many there can be."""
        registry = self._registry
        Gauge("blemish_queue_images", "Images accepted and not yet scored.", registry=registry).set_function(queued)
        Gauge("blemish_queue_capacity", "The most there can be.", registry=registry).set(capacity)

    def watch_workers(self, stuck: Callable[[], int], count: int) -> None:
        """Shows how many workers there are, and how many are at work on an image that was to end."""
        registry = self._registry
        Gauge("blemish_workers", "Images scored at one time, at most.", registry=registry).set(count)
        Gauge("blemish_stuck_workers", "Workers that cannot be stopped.", registry=registry).set_function(stuck)

    def _begin(self, models: Mapping[str, Detector]) -> None:
        info = Gauge("blemish_model_info", "Models served.", ["model", "fingerprint"], registry=self._registry)
        share = Gauge(
            "blemish_small_p_value_share",
            "Share of the last 1,000 images with p <= 0.1; near 0.1 or below while scores look as in calibration.",
            ["model"],
            registry=self._registry,
        )
        alarm = Gauge(
            "blemish_drift_alarm",
            "1 once the drift check has fired, which without cause happens to one server in a hundred at most.",
            ["model"],
            registry=self._registry,
        )
        drift = Gauge(
            "blemish_drift_p_value",
            "The drift check's p-value since the start, valid at any time.",
            ["model"],
            registry=self._registry,
        )
        for name, detector in models.items():
            info.labels(name, detector.fingerprint).set(1)
            share.labels(name).set_function(self._small[name].value)
            alarm.labels(name).set_function(self._streams[name].alarm)
            drift.labels(name).set_function(self._streams[name].p_value)
            self._unreadable.labels(name)
            self._p_values.labels(name)
            for verdict in VERDICTS:
                self._verdicts.labels(name, verdict)
