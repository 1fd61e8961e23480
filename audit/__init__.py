"""A pytest-based security audit of image classifiers. Importing this package does not import torch."""

__version__ = "0.1.0"
