"""What can be wrong with a model."""


class ModelError(Exception):
    """The model cannot be served; its text is one sentence for whoever configured it."""
