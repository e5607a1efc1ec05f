"""How work that takes long says how far it is. Every function that takes `progress` calls it in this one way."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, the steps of it that are done, and all of its steps."""


def no_progress(stage: str, done: int, total: int) -> None:
    """For callers that do not ask."""
