"""Where training runs."""

import torch

from blemish.errors import BlemishError


def require_device(device: str, *, devices: int = 1) -> None:
    """Raises BlemishError for devices ("cuda", "mps", …) that this machine has not.

    "cpu" always passes, however many; "auto" stands for the first kind that there is.
    """
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device == "auto":
        device = next((kind for kind, number in here.items() if number), "cpu")
    if device in here and not here[device]:
        raise BlemishError(f"no {device} device can be used here: leave out device (--device), or name cpu")
    if devices > here.get(device, devices):
        raise BlemishError(f"{devices} {device} devices are asked for and {here[device]} can be used here")
