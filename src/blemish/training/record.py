"""What the model file says about a detector: made of the configuration, the plan and what calibration measured."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from blemish import __version__
from blemish.imaging.ignore_mask import as_record
from blemish.model.metadata import FINGERPRINT_DIGITS, ModelMetadata
from blemish.networks.detector import DetectorNetwork
from blemish.training.prepare import Preparation
from blemish.training.session import Session
from blemish.training.steps.calibration import CalibrationMeasurement, calibrate

PACKAGES = ("torch", "timm", "onnxruntime", "numpy", "pillow")  # whose versions the model file names


def settings_of(session: Session, prepared: Preparation) -> dict[str, Any]:
    """What the model file has under "settings": options and decisions by the names that they have there."""
    config, decided = session.config, prepared.plan
    return {
        "backbone": config.backbone,
        "strides": list(session.extractor.strides),
        "size": list(decided.size),
        "pixel_aspect": decided.pixel_aspect,
        "image_ratio": decided.image_ratio,
        "sigma": config.map.sigma,
        "seed": config.seed,
        "false_alarm_rate": config.false_alarm_rate,
        "outliers": config.outlier_exposure.name if config.outlier_exposure else None,
        "epochs": config.epochs,
        "ignore": session.ignore.fingerprint if session.ignore else None,
        "cross_conformal": config.cross_conformal,
        "groups": decided.groups,
        "align": config.align,
        "bits": decided.bits,
        "method": config.method,
        "synthetic": config.synthetic,
    }


def metadata_of(
    session: Session,
    prepared: Preparation,
    networks: Sequence[DetectorNetwork],
    measured: Sequence[CalibrationMeasurement],
    watched: Mapping[str, Sequence[float]],
) -> ModelMetadata:
    """What the model file says about the detector."""
    config, images, decided, data_set = session.config, prepared.images, prepared.plan, session.data_set
    scores, regions, low = calibrate(measured, false_alarm_rate=config.false_alarm_rate)
    fingerprints = [digest[:FINGERPRINT_DIGITS] for digest in images.pixels.fingerprints]
    roles = prepared.roles()
    return ModelMetadata(
        size=decided.size,
        supervision=decided.supervision,
        settings=settings_of(session, prepared),
        data={
            "name": data_set.root.resolve().name,
            "layout": data_set.layout,
            "nominal_class": data_set.nominal_class,
            "train_images": len(roles["fit"]) + len(roles["labelled"]),
            "calibration_images": scores.images,
            "fingerprint": sha256("".join(sorted(fingerprints)).encode()).hexdigest(),
        },
        used_images=tuple(sorted(fingerprints)),
        roles={role: tuple(fingerprints[index] for index in part) for role, part in roles.items()},
        calibration=scores,
        heatmap_low=low,
        heatmap_high=high_end(low, scores.threshold),
        regions=regions,
        drift_reference=watched,
        ignored=as_record(session.ignore, decided.size) if session.ignore else None,
        bits=images.pixels.reading.bits,
        aligned=any(network.alignment for network in networks),
        networks=tuple(_made_of(network) for network in networks) if config.cross_conformal else (),
        versions={"blemish": __version__} | {name: version(name) for name in PACKAGES},
        config=config.as_record(),
        plan=decided.to_dict(),
    )


def high_end(low: float, threshold: float) -> float:
    """Colours saturate as far above the threshold as good parts usually lie below it."""
    return threshold + max(threshold - low, 1e-6)


def _made_of(network: DetectorNetwork) -> dict[str, bool]:
    """What was decided for one network of several."""
    return {"aligned": network.alignment is not None}
