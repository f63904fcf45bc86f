"""`penstock explain`: which way a request would take, and why not another."""

from __future__ import annotations

import dataclasses
from pathlib import Path  # noqa: TC003 - click reads it from the options
from typing import TYPE_CHECKING

import click

from penstock.cli.options import config_option, control_option, json_option, refuse_unused_control
from penstock.cli.output import columns, print_json, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine import Explanation
    from penstock.engine.explanation import ListHit, MirrorTaken, PassedOver, ShareTaken, UpstreamChoice


@click.command(short_help="Say which way a request would take, and why not another.")
@click.argument("method")
@click.argument("url")
@config_option
@control_option
@json_option
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header field; may be repeated."
)
@click.option("-d", "--data", "body", metavar="BODY", help="A body, for matches that ask for JSON values.")
@click.option("--client", metavar="IP[:PORT]", help="The client's address. Default: 127.0.0.1.")
@click.option("--listener", metavar="NAME", help="The listener that it comes in on. Default: the first.")
@click.option("--user", metavar="NAME", help="Who asks, of a forward proxy; it is believed.")
@click.option("--running", is_flag=True, help="Ask the running process, not the file.")
def explain(  # noqa: PLR0913, PLR0917 - one parameter for each option
    method: str,
    url: str,
    config: Path,
    control: Path | None,
    as_json: bool,
    headers: tuple[str, ...],
    body: str | None,
    client: str | None,
    listener: str | None,
    user: str | None,
    running: bool,
) -> None:
    """Say which way a request METHOD URL would take, and why not another. Nothing is sent."""
    refuse_unused_control(running)
    more = {"body": body, "client": client, "listener": listener, "user": user}
    if running:
        found = _ask(control, config, {"method": method, "url": url, "headers": _fields(headers), **more})
    else:
        found = _work_out(config, method, url, _fields(headers), more)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    for line in explanation_lines(f"{method} {url}", found):
        click.echo(line)


def _ask(control: Path | None, config: Path, request: dict[str, object]) -> Explanation:
    from penstock.cli.control import command  # noqa: PLC0415
    from penstock.control.channel import default_path  # noqa: PLC0415
    from penstock.engine import Explanation, read  # noqa: PLC0415

    return read(Explanation, command(control or default_path(config), {"command": "explain", **request}))


def _work_out(
    config: Path, method: str, url: str, fields: list[tuple[str, str]], more: dict[str, str | None]
) -> Explanation:
    from penstock import engine  # noqa: PLC0415
    from penstock.addons import Loader  # noqa: PLC0415
    from penstock.config import Memory, explain_request  # noqa: PLC0415
    from penstock.control.explain import with_matches  # noqa: PLC0415
    from penstock.control.prepare import build, try_out  # noqa: PLC0415
    from penstock.control.source import FileSource  # noqa: PLC0415

    request = explain_request(method, url, fields, **more)
    prepared = build(FileSource(config), 1, Memory(), Loader())
    return with_matches(try_out(prepared, engine).explain(request), prepared.config)


def _fields(headers: Sequence[str]) -> list[tuple[str, str]]:
    fields = []
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{text!r} is not 'NAME: VALUE'", param_hint="-H")
        fields.append((name.strip(), value.strip()))
    return fields


def explanation_lines(title: str, found: Explanation) -> list[str]:
    """An explanation for people."""
    lines = [click.style(shown(title), bold=True), f"listener   {found.listener}"]
    kind = "rules" if found.action in _OUTWARD else "routes"
    if found.refused:
        by = f"by route {found.route.name}" if found.route else "no route is asked"
        return [*lines, f"answer     {found.status}: refused ({found.refused}), {by}"]
    if found.passed_over:
        lines.append("passed over")
        for one in found.passed_over:
            lines += [f"  {line}" for line in _passed_over(one, kind)]
    lines.append(_route(found))
    lines += [f"list       {shown(_hit(one))}" for one in found.lists]
    if found.maintenance:
        lines.append("maintenance is on, but not for this request")
    if found.filters:
        lines.append("filters")
        lines += columns([(f"{number}.", one.name, one.effect) for number, one in enumerate(found.filters, 1)])
    lines += _asked(found)
    for sent in found.forwarded:
        to = f" to {sent.upstream}" if len(found.forwarded) > 1 else ""
        lines.append(f"forwarded  {sent.method} {shown(sent.target)}{to}")
        lines += columns([(f"{name}:", value) for name, value in (("host", sent.host), *sent.headers)])
    lines += _where_to(found)
    for upstream in found.upstreams:
        lines += _upstream(upstream, split=found.action == "split")
    if found.status is not None:
        lines.append(f"answer     {found.status}{f' ({found.action})' if found.action else ''}")
    return lines


_OUTWARD = {
    "forward": "it goes out",
    "intercept": "the tunnel is opened, and what is asked for in it comes to the rules again",
    "parent": "it goes out through a parent",
    "deny": "it is refused",
    "close": "closed without a word",
}
"""What becomes of a request to a forward proxy."""


def _hit(one: ListHit) -> str:
    return f"{one.list} has {one.value!r}: {one.entry!r} ({one.source}:{one.line})"


def _route(found: Explanation) -> str:
    if found.action in _OUTWARD:
        rule = (
            f"{click.style(found.rule.name, bold=True)} (rules[{found.rule.index}])" if found.rule else "none matches"
        )
        slow = f", {found.throttle} bytes a second each way" if found.throttle else ""
        return f"rule       {rule}: {_OUTWARD[found.action]}{slow}"
    if found.route:
        return f"route      {click.style(found.route.name, fg='green', bold=True)} (routes[{found.route.index}])"
    if found.action == "https_redirect":
        return "route      none is asked: the listener sends who comes over plain HTTP to TLS"
    return click.style("route      none matches", fg="red")


def _asked(found: Explanation) -> list[str]:
    """Who would be asked whether the request goes on."""
    lines = []
    if found.forward_auth:
        auth = found.forward_auth
        given = f", which gives the request {', '.join(auth.copied)}" if auth.copied else ""
        lines.append(f"asks first GET {shown(auth.target)} of {auth.upstream}{given} (not done here)")
    if found.addons:
        lines.append(f"add-ons    {', '.join(found.addons)} (not run: what they change is not shown)")
    return lines


def _where_to(found: Explanation) -> list[str]:
    """What a split and a mirror say."""
    share = [f"share      {_share(found.share)}"] if found.share else []
    return [*share, f"mirror     {_mirror(found.mirror)}"] if found.mirror else share


_SHARES = {"header": "its header names it", "cookie": "its cookie names it", "key": "of its key"}


def _share(share: ShareTaken) -> str:
    if share.name is None:
        return "drawn by weight, for each request anew"
    return f"{click.style(share.name, fg='green')} ({_SHARES[share.why]})"


def _mirror(mirror: MirrorTaken) -> str:
    return (
        f"{mirror.percent:g} % to {mirror.upstream}" if mirror.eligible else f"{mirror.upstream}, but not this request"
    )


def _passed_over(one: PassedOver, kind: str) -> list[str]:
    name = f"{one.name} ({kind}[{one.index}]):"
    if one.why == "listener":
        return [f"{name} does not serve this listener"]
    if one.match is None or one.at is None:
        return [f"{name} {one.why}"]
    source, carets = _underlined(one.match, one.at)
    value = "nothing there" if one.found is None else f"found {one.found!r}"
    return [name, f"    {source}", f"    {click.style(carets, fg='yellow')} {shown(value)}"]


def _underlined(text: str, at: tuple[int, int]) -> tuple[str, str]:
    """The line of `text` where the part begins, and the carets under it."""
    begin = text.rfind("\n", 0, at[0]) + 1
    line = text[begin:].split("\n", 1)[0]
    start, end = at[0] - begin, min(at[1] - begin, len(line))
    return shown(line.replace("\t", " ")), " " * start + "^" * max(1, end - start)


def _upstream(upstream: UpstreamChoice, *, split: bool) -> list[str]:
    share = f", weight {upstream.weight}" if split else ""
    lines = [f"upstream   {click.style(upstream.name, fg='green')} ({upstream.balance}{share})"]
    rows = [
        (
            one.address,
            f"weight {one.weight}",
            one.state if one.admin == "ready" else f"{one.state}, {one.admin}",
            "" if one.eligible else "not a candidate",
        )
        for one in upstream.endpoints
    ]
    return lines + columns(rows)
