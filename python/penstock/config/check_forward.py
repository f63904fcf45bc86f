"""The rules of listeners of "forward", whose clients say where their requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config import texts
from penstock.config.compile_forward import FORWARD_KEYS, intercepts, rule_name
from penstock.config.document import unknown
from penstock.config.expression import asked, compile_expression
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Loaded, Report
    from penstock.config.model import Config, Listener, Rule

_NOT_HERE = {
    "upstream": "clients say where requests go",
    "http": "it speaks HTTP itself",
    "responses": 'it belongs to a listener of "udp"',
    "h2c": 'without TLS, HTTP/1.1 is spoken to a forward proxy; with "tls" also HTTP/2',
    "https_redirect": "its clients speak to a proxy, not to a site",
}

_LONGEST_REALM = 100
_ONE_OF = (
    "a rule has exactly one of allow = true, deny, intercept = true, tunnel = true, direct = true and parent, "
    "or throttle alone"
)


def check_forward(loaded: Loaded, fault: Report, warn: Report) -> None:
    """Find what a forward proxy cannot have, what only it can, and what makes it an open one."""
    config = loaded.config
    proxies = {name for name, listener in config.listeners.items() if listener.protocol == "forward"}
    for name, listener in config.listeners.items():
        key: KeyPath = ("listeners", name)
        if name in proxies:
            _listener(key, listener, config, fault, warn)
        elif listener.protocol == "http":
            for wrong in sorted(listener.model_fields_set.intersection(FORWARD_KEYS)):
                fault((*key, wrong), 'belongs to a listener of "forward"')
    for index, route in loaded.special_routes:
        for place, name in enumerate(route.listeners or ()):
            if name in proxies:
                message = f'{name} is a listener of "forward", whose clients say where requests go; no route serves it'
                fault(("routes", index, "listeners", place), message)
    for index, test in enumerate(config.tests):
        if test.listener in proxies:
            fault(("tests", index, "listener"), f'{test.listener} is a listener of "forward", which has no routes')


def _listener(key: KeyPath, listener: Listener, config: Config, fault: Report, warn: Report) -> None:
    for name in sorted(listener.model_fields_set.intersection(_NOT_HERE)):
        fault((*key, name), f'does not belong to a listener of "forward": {_NOT_HERE[name]}')
    for index, network in enumerate(listener.allow_clients):
        place: KeyPath = (*key, "allow_clients", index)
        try:
            read = texts.read_network(network)
        except ValueError as error:
            fault(place, str(error))
            continue
        if read.endswith("/0"):
            warn(place, f'"{network}" lets everybody use this proxy; name the networks of those who may')
    _users((*key, "users"), listener, config, fault)
    if listener.anonymous:
        for name in sorted(listener.model_fields_set.intersection(("forwarded_for", "forwarded", "via"))):
            fault(
                (*key, name), "tells of the client or the way, and anonymous = true tells nothing; remove one of them"
            )
    _rules((*key, "rules"), listener, fault, warn)
    if not intercepts(listener):
        for name in listener.model_fields_set.intersection(("interception",)):
            warn((*key, name), "says nothing, because no rule has intercept = true")
    for index, ports in enumerate(listener.connect_ports):
        try:
            texts.read_ports(ports)
        except ValueError as error:
            fault((*key, "connect_ports", index), str(error))


def _users(key: KeyPath, listener: Listener, config: Config, fault: Report) -> None:
    if listener.users is None:
        return
    if (listener.users.htpasswd is None) == (listener.users.addon is None):
        fault(key, "has one of htpasswd and addon, which say who the users are")
    name = listener.users.addon
    if name is not None and name not in config.addons:
        fault((*key, "addon"), unknown("add-on", name, config.addons))
    elif name is not None and config.addons[name].on_failure != "deny":
        fault((*key, "addon"), f'who cannot be asked lets nobody in: on_failure of "{name}" must be "deny" here')
    realm = listener.users.realm
    wrong = any(not " " <= character <= "~" or character in '"\\' for character in realm)
    if wrong or len(realm) > _LONGEST_REALM:
        fault((*key, "realm"), f"a realm is at most {_LONGEST_REALM} letters of ASCII, without quotes and backslashes")


def _rules(key: KeyPath, listener: Listener, fault: Report, warn: Report) -> None:
    names: dict[str, int] = {}
    for index, rule in enumerate(listener.rules):
        place: KeyPath = (*key, index)
        fault(place, texts.wrong_name(rule.name) if rule.name is not None else None)
        if (first := names.setdefault(rule_name(index + 1, rule), index)) != index:
            fault((*place, "name"), f'"{rule_name(index + 1, rule)}" is already the name of rules[{first}]')
        ways = (rule.allow, rule.deny is not None, rule.intercept, rule.tunnel, rule.direct, rule.parent is not None)
        if sum(ways) > 1 or not (any(ways) or rule.throttle is not None):
            fault(place, _ONE_OF)
        if rule.throttle is not None and rule.deny is not None:
            fault((*place, "throttle"), "nothing goes, so there is nothing to throttle")
        if rule.match is None:
            if index + 1 < len(listener.rules):
                warn(place, "matches everything, so the rules behind it are never asked")
            continue
        try:
            compiled = compile_expression(rule.match, errand=True)
        except ExpressionError as error:
            fault((*place, "match"), str(error))
            continue
        wanted = set(asked(compiled))
        if "json" in wanted:
            fault((*place, "match"), "asks for a value of the body, which rules of a forward proxy do not wait for")
        if "response_type" in wanted:
            _of_response((*place, "match"), rule, wanted, fault)


def _of_response(key: KeyPath, rule: Rule, wanted: set[str], fault: Report) -> None:
    """A rule that is asked when the server has answered."""
    if rule.throttle is not None or (not rule.allow and rule.deny is None):
        fault(key, "asks for the server's answer, which comes too late for that: only allow and deny can wait for it")
    if "dest_ip" in wanted:
        fault(key, "asks for the server's answer and for dest.ip, which is known before; write two rules")
