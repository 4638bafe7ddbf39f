"""An authenticating reverse proxy for the Inworld voice and language APIs."""

__version__ = "0.1.0"
