"""Refused paths that endpoints know under more names than one (safety.md 131): what the operator is told."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.config import check, load_value


def _warnings(match: str) -> list[str]:
    config: dict[str, Any] = {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "upstreams": {"app": {"endpoints": ["127.0.0.1:9"]}},
        "routes": [{"match": match, "respond": {"status": 403}}, {"upstream": "app"}],
    }
    return [str(warning) for warning in check(load_value(config))]


@pytest.mark.safety(131)
def test_a_refusal_that_capitals_go_round_is_told_of() -> None:
    (warning,) = _warnings('path == "/admin" or path.startswith("/admin/")')
    assert '"/ADMIN" is not refused' in warning
    assert "path.lower()" in warning
    assert _warnings('path.lower() == "/admin" or path.lower().startswith("/admin/")') == []
