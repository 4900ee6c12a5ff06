"""Stepwell's client: what a training script imports."""

__version__ = "0.1.0"
