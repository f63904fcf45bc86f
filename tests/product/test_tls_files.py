"""Certificates and keys on disk: what is refused when they are loaded, and how a replaced file is served."""

from __future__ import annotations

import datetime
import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from tests.certificates import EC, RSA, ask, context, rewrite_key, secure, write
from tests.product.waiting import wait_for

import penstock
from product import run

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from product import Running

WITHIN = 5.0
"""Seconds in which a replaced certificate must be served."""


def configuration(*certificates: dict[str, Any]) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": {"certificates": list(certificates)}}},
        "routes": [{"respond": {"body": "here"}}],
        "engine": {"workers": 1},
    }


def check(folder: Path, *certificates: dict[str, Any]) -> str:
    """What `penstock check` says on standard error."""
    path = folder / "penstock.json"
    path.write_text(json.dumps(configuration(*certificates)), "utf-8")
    done = run("check", "-c", str(path))
    assert done.returncode == (2 if "refused" in done.stderr else 0)
    return done.stderr


def _remove(entry: dict[str, Any], what: str) -> None:
    Path(entry[what]).unlink()


def _empty(entry: dict[str, Any], what: str) -> None:
    Path(entry[what]).write_bytes(b"")


def _garbage(entry: dict[str, Any], what: str) -> None:
    Path(entry[what]).write_bytes(b"\x00\x01 no PEM")


def _broken(entry: dict[str, Any], what: str) -> None:
    text = Path(entry[what]).read_text("ascii")
    Path(entry[what]).write_text(text.replace("-----\n", "-----\n!!", 1), "ascii")


def _no_der(entry: dict[str, Any], what: str) -> None:
    Path(entry[what]).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ascii")


def _folder(entry: dict[str, Any], what: str) -> None:
    Path(entry[what]).unlink()
    Path(entry[what]).mkdir()


def _readable(entry: dict[str, Any], what: str) -> None:
    Path(entry[what]).chmod(0o644)


def _encrypted(entry: dict[str, Any], what: str) -> None:
    rewrite_key(entry[what], PrivateFormat.PKCS8, b"zebra")


def _of_another(entry: dict[str, Any], what: str) -> None:
    folder = Path(entry[what]).parent
    entry[what] = write(folder, "another", "another.example")[what]


@pytest.mark.safety(141, 144)
@pytest.mark.parametrize(
    ("what", "spoil", "says"),
    [
        ("cert", _remove, "there is no such file"),
        ("key", _remove, "there is no such file"),
        ("cert", _empty, "is empty"),
        ("key", _empty, "is empty"),
        ("cert", _garbage, "holds no certificate"),
        ("key", _garbage, "holds no private key"),
        ("cert", _broken, "is no PEM file"),
        ("key", _broken, "is no PEM file"),
        ("cert", _no_der, "is no X.509 certificate"),
        ("cert", _folder, "cannot be read"),
        ("key", _readable, "every user of this machine can read"),
        ("key", _encrypted, "is encrypted"),
        ("key", _of_another, "is not the key of the certificate"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, what: str, spoil: Callable[[dict[str, Any], str], None], says: str
) -> None:
    good = write(tmp_path, "good", "good.example")
    bad = write(tmp_path, "bad", "bad.example")
    spoil(bad, what)
    said = check(tmp_path, good, bad)
    assert says in said
    assert f"listeners.web.tls.certificates[1].{what}: " in said
    assert bad[what] in said
    assert "refused: 1 fault" in said
    assert "PRIVATE" not in said


@pytest.mark.safety(141)
def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a", "a.example"), write(tmp_path, "b", "b.example")
    _remove(first, "cert")
    _readable(first, "key")
    _empty(second, "key")
    assert "refused: 3 faults" in check(tmp_path, first, second)


@pytest.mark.safety(144)
def test_a_key_that_others_can_read_is_taken_when_told(tmp_path: Path) -> None:
    entry = write(tmp_path, "shop", "shop.example")
    _readable(entry, "key")
    assert check(tmp_path, entry | {"readable_key": True}) == ""


def test_names_that_overlap_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path, "first", "a.example", "*.b.example")
    second = write(tmp_path, "second", "a.example")
    assert 'listeners.web.tls.certificates[1].cert: is for "a.example", as certificates[0] is' in check(
        tmp_path, first, second
    )
    # A wildcard and a name under it do not compete, nor do keys of two kinds.
    under = write(tmp_path, "under", "x.b.example")
    rsa = write(tmp_path, "rsa", "a.example", kind=RSA)
    assert check(tmp_path, first, under, rsa) == ""


def test_what_is_doubtful_is_a_warning(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for days, says in ((-3, "has expired"), (5, "expires in"), (60, "")):
        entry = write(tmp_path, "shop", "shop.example", until=now + datetime.timedelta(days=days))
        said = check(tmp_path, entry)
        assert says in said
        assert ("warning" in said and "listeners.web.tls.certificates[0].cert" in said) == bool(says)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (EC, PrivateFormat.PKCS8),
        (RSA, PrivateFormat.PKCS8),
        (EC, PrivateFormat.TraditionalOpenSSL),
        (RSA, PrivateFormat.TraditionalOpenSSL),
    ],
    ids=["PKCS8 EC", "PKCS8 RSA", "SEC1", "PKCS1"],
)
def test_keys_of_every_form(tmp_path: Path, kind: Any, form: PrivateFormat) -> None:
    entry = write(tmp_path, "shop", "shop.example", kind=kind)
    rewrite_key(entry["key"], form)
    with penstock.Proxy(configuration(entry)) as proxy:
        sock = secure(proxy.address())
        assert ask(sock) == b"here"
        sock.close()


@pytest.mark.safety(141)
def test_a_reload_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    old, new = write(tmp_path, "old", "shop.example"), write(tmp_path, "new", "shop.example")
    with penstock.Proxy(configuration(old)) as proxy:
        before = serial(proxy)
        _of_another(new, "key")
        with pytest.raises(penstock.ConfigError, match="is not the key"):
            proxy.apply(configuration(new))
        assert serial(proxy) == before


def serial(proxy: penstock.Proxy, client: ssl.SSLContext | None = None) -> str:
    """Which certificate is served."""
    sock = secure(proxy.address(), trust=client)
    found = sock.getpeercert()
    sock.close()
    assert found is not None
    return str(found["serialNumber"])


@pytest.mark.safety(181)
def test_a_replaced_file_is_served_without_a_reload(tmp_path: Path) -> None:
    with penstock.Proxy(configuration(write(tmp_path, "shop", "shop.example"))) as proxy:
        before = serial(proxy)
        kept = secure(proxy.address())
        assert ask(kept) == b"here"
        write(tmp_path, "shop", "shop.example")
        wait_for(lambda: serial(proxy) != before, "the new certificate is served", WITHIN)
        assert ask(kept) == b"here"
        kept.close()


def secure_listener(config: Path, entry: dict[str, Any]) -> None:
    tls = f'tls = {{ certificates = [{{ cert = "{entry["cert"]}", key = "{entry["key"]}" }}] }}\n'
    config.write_text(config.read_text("utf-8").replace("[upstreams.app]", tls + "[upstreams.app]", 1), "utf-8")


@pytest.mark.safety(181)
def test_the_end_of_what_is_served_is_a_metric(tmp_path: Path, start: Callable[..., Running], config: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ends = [now + datetime.timedelta(days=days) for days in (20, -1)]
    secure_listener(config, write(tmp_path, "shop", "shop.example", until=ends[0]))
    running = start()

    def told() -> float:
        text = running.get("/metrics", running.admin)[1]
        found = re.findall(r"^penstock_certificate_expiry_timestamp_seconds{(.*)} (\S+)$", text, re.MULTILINE)
        ((labels, moment),) = found
        assert 'listener="web"' in labels
        return float(moment)

    assert abs(told() - ends[0].timestamp()) < 2
    # One that has ended is served, with a warning: whoever put it there may know why.
    write(tmp_path, "shop", "shop.example", until=ends[1])
    wait_for(lambda: abs(told() - ends[1].timestamp()) < 2, "the new one's", WITHIN)
    wait_for(lambda: any("has expired" in message for message in running.messages()), "it is told of", WITHIN)


def test_a_broken_file_keeps_the_old_and_warns(tmp_path: Path, start: Callable[..., Running], config: Path) -> None:
    entry = write(tmp_path, "shop", "shop.example")
    secure_listener(config, entry)
    running = start()
    host, _, port = running.address().rpartition(":")
    Path(entry["cert"]).write_text("no certificate", "utf-8")

    def warned() -> list[dict[str, Any]]:
        return [line for line in running.lines if "is still served" in line["message"]]

    wait_for(warned, "a warning")
    assert warned()[0]["level"] == "warning"
    assert entry["cert"] in warned()[0]["message"]
    sock = secure((host, int(port)))
    assert ask(sock, "/hello") == b"one"
    sock.close()
    shown = running.command("cert")
    assert f"web  {entry['cert']}  ECDSA  shop.example  until" in shown.stdout
    # Every secret is where it was, and nowhere else.
    key = Path(entry["key"]).read_text("ascii").splitlines()[1]
    said = [running.command(word).stdout for word in ("plan", "status", "cert")]
    assert not any(key in text for text in (*said, json.dumps(running.lines)))
    write(tmp_path, "shop", "shop.example", "new.shop.example")
    wait_for(lambda: "new.shop.example" in running.command("cert").stdout, "the next good one is served")
    assert len(warned()) == 1


@pytest.mark.parametrize("first", ["cert", "key"])
def test_a_pair_that_does_not_belong_together_for_a_moment(
    tmp_path: Path, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = write(tmp_path, "shop", "shop.example")
    fresh = write(tmp_path / "fresh", "shop", "shop.example")
    with penstock.Proxy(configuration(entry)) as proxy:
        before = serial(proxy)
        Path(fresh[first]).rename(entry[first])
        wait_for(lambda: "the certificate before it is still served" in caplog.text, "a look at the two", WITHIN)
        assert serial(proxy) == before
        second = "key" if first == "cert" else "cert"
        Path(fresh[second]).rename(entry[second])
        wait_for(lambda: serial(proxy) != before, "the new pair is served", WITHIN)


@pytest.mark.safety(141, 181)
def test_certificates_swapped_under_load(tmp_path: Path) -> None:
    entry = write(tmp_path, "shop", "shop.example")
    with penstock.Proxy(configuration(entry)) as proxy:
        seen: set[str] = set()
        failures: list[str] = []
        ended = threading.Event()

        def ask_on() -> None:
            client = context()
            while not ended.is_set():
                try:
                    seen.add(serial(proxy, client))
                except OSError as error:
                    failures.append(repr(error))

        clients = [threading.Thread(target=ask_on) for _ in range(3)]
        for client in clients:
            client.start()
        for _ in range(4):
            before = len(seen)
            write(tmp_path, "shop", "shop.example")
            wait_for(lambda before=before: len(seen) > before, "clients see another certificate")
        ended.set()
        for client in clients:
            client.join()
        assert failures == []
        assert len(seen) >= 4
