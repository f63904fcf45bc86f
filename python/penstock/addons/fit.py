"""Whether what the code of add-ons defines fits the configuration that names it.

That is known only once their modules have run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.addons.message import AUTHENTICATE
from penstock.config import policy_faults
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.addons.load import Loading
    from penstock.config import Loaded
    from penstock.errors import Fault


def check_fit(loaded: Loaded, loadings: Mapping[str, Loading]) -> list[Fault]:
    """Raise `ConfigError` with all faults, or return the warnings."""
    faults = _idle_routes(loaded, loadings) + _users(loaded, loadings)
    of_addons = [(("addons", name, "module"), one) for name, loading in loadings.items() for one in loading.policies]
    policies = [((), policy) for policy in loaded.document.policies] + of_addons
    faults += [loaded.document.fault(key, message) for key, message in policy_faults(loaded.config, policies)]
    if faults:
        raise ConfigError(faults)
    asked = {name for _, route in loaded.special_routes for name in route.addons}
    asked |= {name for _, name in _asked_of_users(loaded)}
    return [
        loaded.document.fault(("addons", name), "nothing names it")
        for name, loading in loadings.items()
        if name not in asked and not loading.policies
    ]


def _idle_routes(loaded: Loaded, loadings: Mapping[str, Loading]) -> list[Fault]:
    """Routes that name an add-on which cannot be asked."""
    without = {name for name, loading in loadings.items() if loading.hooks.keys() <= {AUTHENTICATE}}
    return [
        loaded.document.fault(("routes", index, "addons", place), f'"{name}" defines no hook that is asked of requests')
        for index, route in loaded.special_routes
        for place, name in enumerate(route.addons)
        if name in without
    ]


def _users(loaded: Loaded, loadings: Mapping[str, Loading]) -> list[Fault]:
    """Forward proxies that name an add-on which does not know who is a user."""
    return [
        loaded.document.fault(
            ("listeners", listener, "users", "addon"), f'"{name}" defines no {AUTHENTICATE}(user, password)'
        )
        for listener, name in _asked_of_users(loaded)
        if name in loadings and AUTHENTICATE not in loadings[name].hooks
    ]


def _asked_of_users(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Forward proxies with the add-on that knows their users."""
    for listener, model in loaded.config.listeners.items():
        if model.users is not None and model.users.addon is not None:
            yield listener, model.users.addon
