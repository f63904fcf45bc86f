"""The rules of a route's split: its shares, its key, and how a request names a share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config import texts
from penstock.config.check_balance import check_key
from penstock.config.document import KeyPath, unknown
from penstock.config.model import Split

if TYPE_CHECKING:
    from penstock.config.document import Report
    from penstock.config.model import Config, Override, Route


def check_shares(route: Route, fault: Report) -> None:
    """Find what is wrong with a split whatever stands around the route; keys begin below the route."""
    if route.split is None:
        return
    if not any(share.weight for share in route.shares):
        fault(_shares_key(route), "every weight is 0; at least one must be greater")
    names = [share.upstream for share in route.shares]
    if (twice := next((name for at, name in enumerate(names) if name in names[:at]), None)) is not None:
        fault(_shares_key(route), f'"{twice}" is named twice; give it one weight')
    if isinstance(route.split, Split) and route.split.override is not None:
        _override(("split", "override"), route.split.override, names, fault)


def check_split(key: KeyPath, route: Route, config: Config, fault: Report, warn: Report) -> None:
    """The upstreams of a split exist, and its key compiles."""
    for index, share in enumerate(route.shares):
        if share.upstream not in config.upstreams:
            place = (*key, *_shares_key(route), index, "upstream")
            fault(place, unknown("upstream", share.upstream, config.upstreams))
    if isinstance(route.split, Split) and route.split.key is not None:
        check_key((*key, "split", "key"), route.split.key, config, fault, warn)


def _shares_key(route: Route) -> KeyPath:
    return ("split", "shares") if isinstance(route.split, Split) else ("split",)


def _override(key: KeyPath, override: Override, names: list[str], fault: Report) -> None:
    if override.header is None and override.cookie is None:
        fault(key, "has neither header nor cookie; give at least one of them")
    if override.header is not None:
        fault((*key, "header"), texts.wrong_token(override.header))
    if override.cookie is not None:
        fault((*key, "cookie"), texts.wrong_token(override.cookie, "the name of a cookie"))
    if override.values is not None and not override.values:
        fault((*key, "values"), "is empty, so no request could name a share; leave it out to take the upstreams' names")
    for value, name in (override.values or {}).items():
        if name not in names:
            shares = ", ".join(names)
            fault(
                (*key, "values", value),
                f'"{name}" is no share of this split{texts.nearest(name, names)} (shares: {shares})',
            )
        if not value or texts.wrong_field_value(value) is not None:
            fault((*key, "values", value), "no header and no cookie can have this value")
