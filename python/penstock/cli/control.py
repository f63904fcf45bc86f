"""`reload`, `status`, `drain`, `endpoint`, `affinity` and `maintenance`: commands to a running process."""

from __future__ import annotations

import threading
import time
from pathlib import Path  # noqa: TC003 - click reads it from the options
from typing import Any

import click

from penstock.cli.options import config_option, control_option, json_option
from penstock.cli.output import columns, print_json, print_warnings, shown
from penstock.control.channel import ask, default_path
from penstock.errors import ConfigError, ControlError, Fault

WATCH = 1.0
"""Seconds from one status to the next."""
PATIENCE = 60.0
"""Seconds for an answer; a reload may have to resolve names."""
LONGEST_DRAIN = 365 * 86_400.0


@click.command()
@config_option
@control_option
def reload(config: Path, control: Path | None) -> None:
    """Let the running process load its configuration again.

    A configuration with a fault is refused with exit code 2, and the old one goes on.
    """
    answer = command(control or default_path(config), {"command": "reload"})
    print_warnings(answer["warnings"])
    click.echo(f"applied: version {answer['version']}")


@click.command()
@config_option
@control_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again every second, until interrupted.")
def status(config: Path, control: Path | None, as_json: bool, watch: bool) -> None:
    """Show what the running process serves and how it fares."""
    path = control or default_path(config)
    _show_status(path, as_json)
    pause = threading.Event()
    while watch and not pause.wait(WATCH):
        if not as_json:
            click.clear()
        _show_status(path, as_json)


def _show_status(path: Path, as_json: bool) -> None:
    answer = command(path, {"command": "status"})
    if as_json:
        print_json(answer)
        return
    for line in status_lines(answer):
        click.echo(line)


@click.command(short_help="Drain, disable or weigh one endpoint of the running process.")
@config_option
@control_option
@click.argument("upstream")
@click.argument("address")
@click.argument("order", metavar="drain|ready|disable|weight=N")
def endpoint(config: Path, control: Path | None, upstream: str, address: str, order: str) -> None:
    """Change what the running process does with one endpoint, at once and without a reload.

    drain: no new requests, but those of clients that are bound to it. ready: use it. disable: no requests at all.
    weight=N: its share of the requests, 0 to 256. It holds until the endpoint is configured otherwise.
    """
    request = {"command": "endpoint", "upstream": upstream, "endpoint": address, "order": order}
    row = command(control or default_path(config), request)
    click.echo(f"{upstream} {row['address']}: {row['admin']}, weight {row['weight']}, {row['in_flight']} in flight")


@click.command(short_help="Put routes of the running process into maintenance, or back into service.")
@config_option
@control_option
@click.argument("order", metavar="on|off", type=click.Choice(["on", "off"]))
@click.argument("route", required=False)
def maintenance(config: Path, control: Path | None, order: str, route: str | None) -> None:
    """Put one route, or all of them, into maintenance or back into service, at once and without a reload.

    Requests get 503, but for those that the route's maintenance.except names. It holds until the route is configured
    otherwise.
    """
    request = {"command": "maintenance", "on": order == "on", "route": route}
    answer = command(control or default_path(config), request)
    for name in answer["routes"]:
        click.echo(f"{shown(name)}: {'in maintenance' if answer['on'] else 'in service'}")


@click.command(short_help="Show or clear the table that binds clients to endpoints.")
@config_option
@control_option
@json_option
@click.argument("upstream")
@click.argument("key", required=False)
@click.option("--endpoint", metavar="ADDRESS", help="Clear the clients of this endpoint only.")
@click.option("--clear", is_flag=True, help="Forget the client, or all of them.")
def affinity(  # noqa: PLR0913 - one parameter for each option
    config: Path,
    control: Path | None,
    upstream: str,
    key: str | None,
    *,
    endpoint: str | None,
    clear: bool,
    as_json: bool,
) -> None:
    """Show how many clients the affinity table of an upstream has bound, and where.

    KEY is what a client is known by, such as its address: then it is told where this client is bound. With --clear
    the client is forgotten, or those of one endpoint, or all: whoever comes again is balanced anew.
    """
    if endpoint is not None and not clear:
        raise click.UsageError("--endpoint says whom to forget: it goes with --clear")
    request = {"command": "affinity", "upstream": upstream, "key": key, "endpoint": endpoint, "clear": clear}
    answer = command(control or default_path(config), request)
    if as_json:
        print_json(answer)
        return
    for line in _affinity(answer):
        click.echo(line)


def _affinity(answer: dict[str, Any]) -> list[str]:
    if answer["cleared"] is not None:
        return [f"{answer['cleared']} clients forgotten"]
    client = answer["client"]
    if client is None:
        return [_table(answer), *columns([(row["address"], row["clients"], "clients") for row in answer["endpoints"]])]
    if client["seen"] is None:
        return [f"{shown(client['key'])} is not bound"]
    where = client["endpoint"] or "an endpoint that is gone"
    return [f"{shown(client['key'])} is bound to {where}, seen {_length(client['seen'])} ago"]


def _table(row: dict[str, Any]) -> str:
    return (
        f"affinity: {row['clients']} of {row['size']} clients, for {_length(row['ttl'])}, "
        f"{row['evicted']} evicted, {row['memory']} bytes"
    )


@click.command(short_help="Let what is under way finish, then end the process.")
@config_option
@control_option
@click.option("--now", is_flag=True, help="Do not wait for what is under way.")
def drain(config: Path, control: Path | None, now: bool) -> None:
    """Let the running process finish what is under way, for up to engine.drain_timeout, and end."""
    request = {"command": "stop" if now else "drain"}
    answer = command(control or default_path(config), request, LONGEST_DRAIN)
    if now:
        click.echo("stopped")
    elif answer["drained"]:
        click.echo("drained: everything under way has finished")
    else:
        raise ControlError("stopped with connections still open: they were closed")


def command(path: Path, request: dict[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
    """Send one command and return its answer. Raises `ConfigError` or `ControlError` for a refusal."""
    answer = ask(path, request, patience)
    if "faults" in answer and "error" in answer:
        raise ConfigError([Fault(**fault) for fault in answer["faults"]])
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer


def status_lines(answer: dict[str, Any]) -> list[str]:
    """The status for people."""
    lines = [
        f"{answer['config']}: {answer['state']}, plan version {answer['plan_version']}, pid {answer['pid']}, "
        f"up {_length(answer['uptime'])}, {answer['workers']} workers"
    ]
    refusal = answer["last_refusal"]
    if refusal:
        lines.append(click.style("the last change was refused, the one before goes on:", fg="red"))
        lines += [f"  {shown(str(Fault(**fault)))}" for fault in refusal["faults"]]
    lines.append("listeners")
    lines += columns(
        [
            (
                row["name"],
                row["state"],
                " ".join(row["addresses"]),
                row["connections"],
                "open",
                row["accepted"],
                "accepted",
                _sessions(row) or _capture(row["capture"]),
            )
            for row in answer["listeners"]
        ]
    )
    lines.append("routes")
    lines += columns(
        [
            (
                _route(row["name"]),
                row["requests"],
                "requests",
                _statuses(row),
            )
            for row in answer["routes"]
            if row["name"] != "_none" or row["requests"]
        ]
    )
    for upstream in answer["upstreams"]:
        lines.append(f"upstream {upstream['name']} ({upstream['balance']})")
        if upstream["all_down"]:
            lines.append(click.style("  every endpoint is down or ejected: requests go to all of them", fg="red"))
        if upstream["mirror"]:
            lines += columns([("copies", *(f"{count} {what}" for what, count in _copies(upstream["mirror"])))])
        if upstream["affinity"]:
            lines.append(f"  {_table(upstream['affinity'])}")
        lines += columns([_limit(name, row) for name, row in upstream["limits"].items()])
        lines += columns([_endpoint(row) for row in upstream["endpoints"]])
    if answer["lists"]:
        lines.append("lists")
        lines += columns([_list(row) for row in answer["lists"]])
    lines += [_policy(row) for row in answer["weights"]]
    return lines


def _sessions(row: dict[str, Any]) -> str:
    """What is told of a listener of connections."""
    if row["protocol"] == "http":
        return ""
    ended = " ".join(f"{word}:{count}" for word, count in row["sessions"].items() if count)
    moved = f"{row['bytes_in']} bytes in, {row['bytes_out']} out"
    if row["protocol"] == "udp":
        moved += f", {row['datagrams_in']} datagrams in, {row['datagrams_out']} out, {row['datagrams_dropped']} dropped"
    return f"{row['protocol']}, {moved} {ended}".rstrip()


def _capture(row: dict[str, int] | None) -> str:
    if row is None:
        return ""
    lost = f", {row['dropped']} dropped" if row["dropped"] else ""
    return f"captures: {row['entries']} kept, {row['bytes']} of {row['memory']} bytes, {row['evicted']} evicted{lost}"


def _statuses(row: dict[str, Any]) -> str:
    counts = [f"{status}:{count}" for status, count in row["statuses"].items() if count]
    return " ".join([*counts, "in maintenance"] if row["maintenance"] else counts)


def _route(name: str) -> str:
    return "(no route matched)" if name == "_none" else name


def _policy(row: dict[str, Any]) -> str:
    counts = ", ".join(f"{row[outcome]} {outcome}" for outcome in ("applied", "failed", "hung"))
    line = f"weights of {row['upstream']} by {row['function']}: {counts}; the last {row['last'] or 'is to come'}"
    return line + (click.style(f" ({shown(row['trouble'])})", fg="red") if row["trouble"] else "")


def _list(row: dict[str, Any]) -> tuple[object, ...]:
    troubles = [one["trouble"] for one in row["fetches"] if one["trouble"]] + (
        [row["trouble"]] if row["trouble"] else []
    )
    since = _length(max(0.0, time.time() - row["refreshed"]))
    bad = f", {row['bad']} bad lines" if row["bad"] else ""
    trouble = f"({'; '.join(troubles)})" if troubles else ""
    return (
        row["name"],
        row["kind"],
        row["entries"],
        "entries",
        row["bytes"],
        f"bytes{bad}",
        f"read {since} ago",
        trouble,
    )


def _endpoint(row: dict[str, Any]) -> tuple[object, ...]:
    state = row["state"] if row["admin"] == "ready" else f"{row['state']}, {row['admin']}"
    latency = f"{row['latency_us'] / 1000:.1f} ms"
    return (
        row["address"], state, _why(row), row["in_flight"], "in flight", row["requests"], "requests",
        row["failures"], "failed", latency, _probe(row["probe"]),
    )  # fmt: skip


def _copies(row: dict[str, int]) -> list[tuple[str, int]]:
    return [(what.replace("_", " "), count) for what, count in row.items()]


def _limit(name: str, row: dict[str, int]) -> tuple[object, ...]:
    return name, f"{row['taken']} of {row['most']}", row["refused"], "refused"


def _why(row: dict[str, Any]) -> str:
    if row["state"] == "up":
        return ""
    left = f", {row['ejected_for']:.0f} s left" if row["state"] == "ejected" else ""
    return f"({row['reason']}, for {_length(row['since'])}{left})"


def _probe(probe: dict[str, Any] | None) -> str:
    if probe is None:
        return ""
    in_a_row = f", {probe['failures_in_a_row']} failures in a row" if probe["failures_in_a_row"] else ""
    return f"probed {_length(probe['ago'])} ago: {probe['outcome']} in {probe['took'] * 1000:.0f} ms{in_a_row}"


def _length(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"
