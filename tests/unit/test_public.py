"""What `penstock` gives to programs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

import penstock
from penstock.config import model
from penstock.config.model.base import Model

if TYPE_CHECKING:
    from collections.abc import Iterator


def _models() -> Iterator[type]:
    """Every class of the configuration, wherever it stands."""
    for found in pkgutil.iter_modules(model.__path__):
        module = importlib.import_module(f"{model.__name__}.{found.name}")
        for name, one in inspect.getmembers(module, inspect.isclass):
            if issubclass(one, Model) and one is not Model and not name.startswith("_"):
                yield one


def test_every_class_of_a_configuration_can_be_had_from_penstock() -> None:
    classes = set(_models())
    assert len(classes) > 40
    missing = {one.__name__ for one in classes if getattr(penstock, one.__name__, None) is not one}
    assert missing == set()


def test_every_public_name_is_there() -> None:
    assert sorted(set(penstock.__all__)) == sorted(penstock.__all__)
    assert all(getattr(penstock, name) is not None for name in penstock.__all__)
