"""Lists: what they decide, and what becomes of them while the process runs."""

from __future__ import annotations

import http.client
import http.server
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest
from waiting import wait_for

import penstock
from product import run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from product import Running

CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[lists.social]
SOURCE
[lists.office]
file = "office.txt"
kind = "networks"
[[routes]]
name = "blocked"
match = 'host in list("social") and client.ip not in list("office")'
respond = { status = 403 }
[[routes]]
respond = { status = 204 }
"""


def written(folder: Path, source: str = 'file = "social.txt"', office: str = "10.0.0.0/8\n") -> Path:
    (folder / "office.txt").write_text(office)
    path = folder / "penstock.toml"
    path.write_text(CONFIG.replace("SOURCE", source))
    return path


def ask(running: Running, host: str) -> int:
    connection = http.client.HTTPConnection(running.address(), timeout=10)
    connection.request("GET", "/", headers={"Host": host})
    status = connection.getresponse().status
    connection.close()
    return status


def metric(running: Running, name: str, **labels: str) -> float | None:
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    with urllib.request.urlopen(f"http://{running.admin}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{{inside}}} ")), None)


def test_a_list_follows_its_file_without_a_reload(tmp_path: Path) -> None:
    social = tmp_path / "social.txt"
    social.write_text("# social\nsocial.example\nhttp://wrong/\n")
    with serving(written(tmp_path)) as running:
        assert [ask(running, host) for host in ("www.social.example", "chat.example")] == [403, 204]
        row = next(row for row in running.status()["lists"] if row["name"] == "social")
        assert (row["entries"], row["bad"], row["failures"], row["fetches"]) == (1, 1, 0, [])
        assert any("1 bad line: " in message and "http://wrong/" in message for message in running.messages())
        explained = running.command("explain", "GET", "http://www.social.example/", "--running").stdout
        assert f"list       social has 'www.social.example': 'social.example' ({social}:2)" in explained
        social.write_text("chat.example\nmore.example\n")
        wait_for(lambda: ask(running, "chat.example") == 403, "the new entries")
        assert ask(running, "www.social.example") == 204
        wait_for(lambda: metric(running, "penstock_list_entries", list="social") == 2, "the metric")
        assert running.status()["plan_version"] == 1, "no reload was needed"


def test_what_cannot_be_read_anew_leaves_the_list_as_it_was(tmp_path: Path) -> None:
    social = tmp_path / "social.txt"
    social.write_text("social.example\n")
    with serving(written(tmp_path)) as running:
        for number, (content, reason) in enumerate(
            ((None, "cannot be read"), ("", "is empty"), ("<html>\n<p>not found</p>\n", "nothing in it is of kind")), 1
        ):
            social.unlink(missing_ok=True)
            if content is not None:
                social.write_text(content)

            def told(reason: str = reason) -> bool:
                return any(reason in message and "goes on" in message for message in running.messages())

            wait_for(told, reason)
            assert ask(running, "social.example") == 403, content
            row = next(row for row in running.status()["lists"] if row["name"] == "social")
            assert reason in row["trouble"]
            assert row["failures"] >= number
            assert metric(running, "penstock_list_refresh_failures_total", list="social") >= number
        assert reason in running.command("status").stdout
        social.write_text("# nobody\n")
        wait_for(lambda: ask(running, "social.example") == 204, "a comment empties it")
        assert running.status()["lists"][0]["trouble"] is None


def test_a_reload_keeps_what_it_does_not_change(tmp_path: Path) -> None:
    social = tmp_path / "social.txt"
    social.write_text("social.example\n")
    path = written(tmp_path)
    with penstock.Proxy(path) as proxy:
        before = proxy.stats().lists[0]
        path.write_text(path.read_text().replace("204", "205"))
        proxy.apply(path)
        assert proxy.stats().lists[0] == before, "it was not read again"
        path.write_text(path.read_text().replace('file = "social.txt"', 'file = ["social.txt", "office.txt"]'))
        proxy.apply(path)
        assert proxy.stats().lists[0].refreshed > before.refreshed
        path.write_text(path.read_text().replace('"office.txt"]', '"gone.txt"]'))
        with pytest.raises(penstock.ConfigError, match=r"lists\.social: .*gone\.txt cannot be read"):
            proxy.apply(path)
        assert proxy.stats().lists[0].entries == 1


def test_check_tells_of_bad_lines_and_refuses_what_is_no_such_list(tmp_path: Path) -> None:
    (tmp_path / "social.txt").write_text("a.example\n" + "b c\n" * 7)
    done = run("check", "-c", str(written(tmp_path)))
    assert done.returncode == 0
    assert f"penstock.toml:5: lists.social: 7 bad lines: {tmp_path}/social.txt:2:" in done.stderr
    assert "and 2 more" in done.stderr
    done = run("check", "-c", str(written(tmp_path, office="a.example\n")))
    assert done.returncode == 2
    assert 'lists.office: nothing in it is of kind "networks": 1 bad line' in done.stderr
    done = run("check", "-c", str(written(tmp_path, 'file = "social.txt"\nmax_size = 10')))
    assert "is more than max_size, 10 bytes" in done.stderr


class Site(http.server.ThreadingHTTPServer):
    """Serves one list, with an `ETag`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.status, self.body, self.seen = 200, b"", list[str | None]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/social.txt"


class _Page(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        tag = f'"{hash(self.server.body)}"'
        asked = self.headers["If-None-Match"]
        self.server.seen.append(asked)
        status = 304 if asked == tag and self.server.status == 200 else self.server.status
        self.send_response(status)
        self.send_header("ETag", tag)
        if status != 304:
            self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if status != 304:
            self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_a_list_is_fetched_and_kept_for_the_next_start(tmp_path: Path, site: Site) -> None:
    site.body = b"social.example\n"
    path = written(tmp_path, f'url = "{site.url}"\nrefresh = "1s"')
    state = {"STATE_DIRECTORY": str(tmp_path / "state"), "NO_PROXY": "127.0.0.1"}
    with serving(path, state) as running:
        assert ask(running, "www.social.example") == 403, "it is there with the first request"
        site.body = b"chat.example\n"
        wait_for(lambda: ask(running, "chat.example") == 403, "the new content")
        site.status, site.body = 200, b"<html>we are down</html>\n"
        wait_for(lambda: running.status()["lists"][0]["fetches"][0]["failures"], "a page that is no list")
        assert ask(running, "chat.example") == 403
        (fetch,) = running.status()["lists"][0]["fetches"]
        assert "nothing in it is of kind" in fetch["trouble"]
        assert site.url in fetch["trouble"]
        assert metric(running, "penstock_list_refresh_failures_total", list="social") >= 1
    assert any(site.seen), "it was asked whether there is something new"
    site.status = 503
    with serving(path, state) as running:
        assert ask(running, "chat.example") == 403, "what was fetched before is used"


def test_a_start_does_not_wait_for_a_server_that_is_down(tmp_path: Path, site: Site) -> None:
    site.status = 503
    path = written(tmp_path, f'url = "{site.url}"\nrefresh = "1s"')
    state = {"STATE_DIRECTORY": str(tmp_path / "state"), "NO_PROXY": "127.0.0.1"}
    done = run("check", "-c", str(path), env=state)
    assert done.returncode == 0
    assert f"{site.url} was not fetched yet" in done.stderr
    assert not site.seen, "check opens no socket"
    with serving(path, state) as running:
        assert ask(running, "social.example") == 204
        assert any("the server answered 503" in message for message in running.messages())
        site.status, site.body = 200, b"social.example\n"
        wait_for(lambda: ask(running, "social.example") == 403, "it is fetched once it is there")
