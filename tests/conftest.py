"""What all tests share: the marker `safety(number, …)`, which says what case of the catalogue a test shows."""

from __future__ import annotations

from tests.safety.table import pytest_addoption, pytest_collection_modifyitems, pytest_terminal_summary

__all__ = ["pytest_addoption", "pytest_collection_modifyitems", "pytest_terminal_summary"]
