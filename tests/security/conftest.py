"""What is tried here is counted."""

from tests.inputs_tried import pytest_terminal_summary, tried

__all__ = ["pytest_terminal_summary", "tried"]
