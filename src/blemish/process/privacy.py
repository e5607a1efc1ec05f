"""Switches off what libraries would send: usage statistics, host look-ups, device identifiers.

Each reads its switch when it is imported, so `blemish` imports this first. What the user has set stays. Processes that
are started from this one inherit the switches.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: host look-ups, a device id and a queue of events
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
    "HF_HUB_DISABLE_TELEMETRY": "1",  # Hugging Face Hub, which timm imports
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow
    "DO_NOT_TRACK": "1",  # what many other tools ask
}


_COMPILER_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
_NAMED_BY_USER = _COMPILER_FOLDER in os.environ


def keep_quiet() -> None:
    """Sets all switches that are not set."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if not _has_chosen_for_openvino():
        # OpenVINO has no switch. Without this package, which it does without, it sends nothing and writes no id.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def remove_compiler_folder() -> None:
    """Takes away the folder that torch makes when it is imported, unless it holds something or the user named it."""
    folder = os.environ.get(_COMPILER_FOLDER)
    if folder and not _NAMED_BY_USER:  # torch sets it
        with suppress(OSError):
            os.rmdir(folder)


def _has_chosen_for_openvino() -> bool:
    """Whether the user ran OpenVINO's `opt_in_out`, which writes a file."""
    home, folder = (os.environ.get("LOCALAPPDATA"), "Intel Corporation") if os.name == "nt" else (None, "intel")
    try:
        return (Path(home or Path.home()) / folder / "openvino_telemetry").is_file()
    except (OSError, RuntimeError):  # no home
        return False
