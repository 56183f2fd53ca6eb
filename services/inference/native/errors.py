"""What can be wrong with a model, and with a step."""

from typing import Literal

# What an error in a step has broken: that step, the supply of memory, or the device for this process.
Damage = Literal["step", "memory", "device"]


class ModelError(Exception):
    """The model cannot be served; its text is one sentence for whoever configured it."""
