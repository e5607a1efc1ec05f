"""Where training runs."""

import torch

from blemish.errors import BlemishError


def refuse_missing_device(device: str) -> None:
    """Raises BlemishError for a device ("cuda", "mps", …) that this machine has not; "auto" and "cpu" always pass."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device, True):
        raise BlemishError(f"no {device} device can be used here: leave out --device, or give --device cpu")
