"""Networks whose features stand for what people see: a small classifier of the data set's own labels, and InceptionV3."""

from zoo.features.base import Features

__all__ = ["Features"]
