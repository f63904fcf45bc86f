"""What rows with TLS stand on: the certificate, the load of handshakes, and every peer's configuration."""

import shutil
import ssl
from pathlib import Path

import pytest
from bench import certificate, s_time
from bench.launch import BenchError
from bench.peers import HAProxy, Nginx, Penstock, Scenario

from penstock.config import check, load

REPORT = """Collecting connection statistics for 2 seconds
************************************************

288 connections in 0.53s; 543.40 connections/user sec, bytes read 42624
288 connections in 3 real seconds, 148 bytes read per connection
"""


@pytest.fixture
def made(tmp_path: Path) -> certificate.Certificate:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    return certificate.make(tmp_path)


def test_clients_believe_the_certificate_and_others_cannot_read_its_key(made: certificate.Certificate):
    assert made.context().cert_store_stats()["x509"] == 1
    assert [file.stat().st_mode & 0o077 for file in (made.key, made.both)] == [0, 0]
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(made.cert, made.key)


def test_every_peer_is_told_of_the_certificate_and_to_resume_nothing(made: certificate.Certificate, tmp_path: Path):
    for http2 in (False, True):
        folder = tmp_path / str(http2)
        folder.mkdir()
        scenario = Scenario(tls=made, http2=http2)
        for peer in (Penstock(), Nginx(), HAProxy()):
            peer.prepare(folder, 8443, 9000, scenario)
        assert check(load(folder / "penstock.toml")) == []
        nginx, haproxy = ((folder / name).read_text() for name in ("nginx.conf", "haproxy.cfg"))
        assert "ssl_session_tickets off" in nginx
        assert ("listen 127.0.0.1:8443 ssl http2;" in nginx) is http2
        assert "no-tls-tickets" in haproxy
        assert ("alpn h2" in haproxy) is http2


def test_handshakes_are_counted_and_answers_that_are_not_whole_refused():
    told = s_time.parse(REPORT)
    assert (told.requests, told.seconds) == (288, 3)
    with pytest.raises(BenchError, match="no whole answer"):
        s_time.parse(REPORT.replace("148 bytes", "0 bytes"))
    with pytest.raises(BenchError, match="connect: errno"):
        s_time.parse("connect: errno 111")
