"""The rules of a route's mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config.check_condition import check_condition
from penstock.config.document import unknown

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import Config, Route


def check_mirror(key: KeyPath, route: Route, config: Config, fault: Report, warn: Report) -> None:
    """The upstream of a mirror exists, and is another than the route's own."""
    if route.mirror is None:
        return
    name = route.mirror.upstream
    if name not in config.upstreams:
        fault((*key, "mirror", "upstream"), unknown("upstream", name, config.upstreams))
    elif name in (route.upstream, *(share.upstream for share in route.shares)):
        warn(
            (*key, "mirror", "upstream"), f'"{name}" gets the requests themselves, too: it will see some of them twice'
        )
    if route.mirror.percent == 0:
        warn((*key, "mirror", "percent"), "is 0, so no request is copied")


def check_copies(route: Route, fault: Report) -> None:
    """Find what is wrong with a mirror whatever stands around the route; keys begin below the route."""
    if route.mirror is None:
        return
    if route.respond is not None or route.redirect is not None:
        fault(("mirror",), "copies what is forwarded, and this route forwards nothing; give it an upstream or a split")
    percent = route.mirror.percent * 100
    if abs(percent - round(percent)) > 1e-6:
        fault(("mirror", "percent"), f"is counted in hundredths, as 0.25; {route.mirror.percent} is finer")
    check_condition(("mirror", "when"), route.mirror.when, fault)
