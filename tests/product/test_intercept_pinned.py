"""Clients that do not take our certificate: noticed, told of, and left alone for a while."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from intercepting import NAME, OPEN, asking, connected, intercepting, secured, settings, shop, trusting, whole_answer
from tests.certificates import context
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer

import penstock

if TYPE_CHECKING:
    from pathlib import Path

    from secured import SecuredOrigin


@pytest.fixture
def origin(tmp_path: Path) -> Any:
    """One that has two names."""
    with shop(tmp_path) as running:
        yield running


def counted(proxy: penstock.Proxy, **expected: int) -> None:
    """Wait until so many are counted."""
    found = lambda: {word: proxy.stats().listeners[0].interception[word] for word in expected}  # noqa: E731
    wait_for(lambda: found() == expected, f"{expected}, not {found()}")


def refuse(proxy: penstock.Proxy, port: int, name: str = NAME, **options: Any) -> None:
    """Shake hands and take nothing but what the origin itself shows."""
    trust = context(**options)
    with pytest.raises(ssl.SSLCertVerificationError):
        secured(proxy, port, trust, name)


def is_opened(proxy: penstock.Proxy, port: int, folder: Path, name: str = NAME) -> bool:
    """Whether a tunnel is, as a client sees it that knows both ways."""
    trust = trusting(folder)
    trust.load_verify_locations(str(folder / "roots.pem"))
    with secured(proxy, port, trust, name) as sock:
        issuer: Any = sock.getpeercert()
        assert whole_answer(sock, host=f"{name}:{port}")[0] == 200
    return "Penstock" in str(issuer["issuer"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_one_who_says_so_is_left_alone_next_time(tmp_path: Path, origin: SecuredOrigin, version: Any) -> None:
    with intercepting(tmp_path) as proxy:
        refuse(proxy, origin.port, maximum_version=version)
        counted(proxy, refused=1, opened=0, pinned=0)
        with secured(proxy, origin.port, context()) as sock:
            assert whole_answer(sock)[0] == 200
        counted(proxy, refused=1, opened=0, pinned=1)
        # It is that host alone.
        assert is_opened(proxy, origin.port, tmp_path, "other.example")
        assert not is_opened(proxy, origin.port, tmp_path)
        assert proxy.stats().rejected["certificate_refused"] == 1


def break_off(proxy: penstock.Proxy, port: int, folder: Path) -> None:
    """See our certificate, and be gone."""
    sock = connected(proxy, f"{NAME}:{port}")
    hello, came = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(folder).wrap_bio(came, hello, server_hostname=NAME)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    sock.sendall(hello.read())
    assert sock.recv(1)
    sock.close()


def leave(proxy: penstock.Proxy, port: int, folder: Path) -> None:
    """Shake hands, ask for nothing."""
    secured(proxy, port, trusting(folder)).close()


@pytest.mark.parametrize("go", [break_off, leave])
def test_one_who_goes_away_is_believed_the_third_time(tmp_path: Path, origin: SecuredOrigin, go: Any) -> None:
    with intercepting(tmp_path) as proxy:
        for _ in range(3):
            counted(proxy, pinned=0)
            go(proxy, origin.port, tmp_path)
            wait_for(lambda: proxy.stats().listeners[0].connections == 0, "it is gone")
        assert not is_opened(proxy, origin.port, tmp_path)
        counted(proxy, pinned=1, refused=0)


@pytest.mark.parametrize("go", [break_off, leave])
def test_one_who_asked_for_something_goes_as_it_likes(tmp_path: Path, origin: SecuredOrigin, go: Any) -> None:
    with intercepting(tmp_path) as proxy:
        go(proxy, origin.port, tmp_path)
        assert is_opened(proxy, origin.port, tmp_path)
        for _ in range(5):
            go(proxy, origin.port, tmp_path)
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "all are gone")
        assert is_opened(proxy, origin.port, tmp_path)


def test_the_time_is_bounded(tmp_path: Path, origin: SecuredOrigin) -> None:
    with intercepting(tmp_path, interception={"authority": str(tmp_path / "ca"), "pinned": "300ms"}) as proxy:
        refuse(proxy, origin.port)
        counted(proxy, refused=1)
        wait_for(lambda: is_opened(proxy, origin.port, tmp_path), "it is opened again")


def test_nobody_is_left_alone_where_that_is_not_wanted(tmp_path: Path, origin: SecuredOrigin) -> None:
    with intercepting(tmp_path, interception={"authority": str(tmp_path / "ca"), "pinned": "0s"}) as proxy:
        refuse(proxy, origin.port)
        counted(proxy, refused=1)
        assert is_opened(proxy, origin.port, tmp_path)


def test_it_outlives_a_reload(tmp_path: Path, origin: SecuredOrigin) -> None:
    with NameServer("127.0.0.1") as names, penstock.Proxy(asking(names, settings(tmp_path))) as proxy:
        refuse(proxy, origin.port)
        counted(proxy, refused=1)
        proxy.apply(asking(names, settings(tmp_path, {"match": 'path == "/x"', "deny": 403}, OPEN)))
        assert not is_opened(proxy, origin.port, tmp_path)
