"""nginx, HAProxy, or whatever listens at an address, in the place of Penstock between client and recording origin.

They get the configuration that this job asks of them: HTTP/1.1 and a pool to the origin, bodies passed on as they come,
the client's address in `X-Forwarded-For`. What a row asks beyond that they get where they have a word for it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from tests.wire.peers import ShortFolder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.peers import Address
    from tests.wire.stage import Config

_PATH = re.compile(r'path(?:\.lower\(\))? == "([^"]+)"')


class UnsupportedError(Exception):
    """The row asks for something that this proxy has no word for."""


class Started:
    """A proxy of Debian's, started for one configuration on a port that the system gives."""

    has_sentinel = True
    trust = None
    shows = None
    program: str

    def __init__(self, config: Config) -> None:
        self._config = config
        text_of = self.configuration(config)
        self._folder = ShortFolder()
        self._folder.path.chmod(0o755)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._socket.set_inheritable(True)
        target = self._folder.path / "conf"
        target.write_text(text_of.replace("{folder}", str(self._folder.path)).replace("{port}", str(self._port)))
        self._process = subprocess.Popen(
            self.command(target, self._socket.fileno()),
            pass_fds=[self._socket.fileno()],
            env={**os.environ, "NGINX": f"{self._socket.fileno()};", "LISTEN": str(self._socket.fileno())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @classmethod
    def path(cls) -> str | None:
        """Where the program is, if it is installed."""
        return shutil.which(cls.program) or shutil.which(f"/usr/sbin/{cls.program}")

    @classmethod
    def version(cls) -> str:
        """Such as `nginx 1.26.3`."""
        done = subprocess.run([str(cls.path()), "-v"], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
        return f"{cls.program} {found[0] if found else ''}".strip()

    def configuration(self, config: Config) -> str:
        """Its configuration for a row's. Raises `UnsupportedError`."""
        raise NotImplementedError

    def command(self, target: Path, listener: int) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    @property
    def _port(self) -> int:
        return int(self._socket.getsockname()[1])

    def address(self, listener: str) -> Address:
        """Where it accepts."""
        del listener
        return "127.0.0.1", self._port

    def close(self) -> None:
        """End the process that was started."""
        self._process.terminate()
        self._process.wait()
        self._socket.close()
        self._folder.__exit__()


class Nginx(Started):
    """nginx."""

    program = "nginx"

    def configuration(self, config: Config) -> str:
        """A server with a location for each route."""
        asked = Asked(config)
        names = {"head": "client_header_timeout", "body": "client_body_timeout", "idle": "keepalive_timeout"}
        lines = [f"{names[name]} {wait};" for name, wait in asked.timeouts.items()]
        for path, status, to in asked.answers:
            answer = f"return {status} {to};" if to else f"return {status};"
            kinds = ("=", "^~") if path.endswith("/") else ("=",)
            lines += [f"location {kind} {path} {{ {answer} }}" for kind in kinds]
        user = "user root;" if os.getuid() == 0 else ""  # else its workers may not enter the folder
        temporary = " ".join(f"{name}_temp_path {{folder}}/{name};" for name in _TEMPORARY)
        return f"""daemon off; {user} worker_processes 1; pid {{folder}}/pid; error_log {{folder}}/log; events {{}}
http {{
    access_log off; client_max_body_size 0; {temporary}
    upstream origin {{ server {asked.origin}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{{port}};
        location = /_sentinel {{ return 200 watch; }}
        {" ".join(lines)}
        location / {{
            proxy_pass http://origin; proxy_http_version 1.1; proxy_request_buffering off; proxy_buffering off;
            proxy_set_header Connection $proxy_connection; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
    map $http_upgrade $proxy_connection {{ default upgrade; "" ""; }}
}}
"""

    def command(self, target: Path, listener: int) -> list[str]:
        """The listening socket is handed over by nginx's own variable, as when it is upgraded."""
        del listener
        return [str(self.path()), "-e", str(target.with_name("log")), "-c", str(target)]


class HAProxy(Started):
    """HAProxy."""

    program = "haproxy"

    def configuration(self, config: Config) -> str:
        """A frontend with a rule for each route."""
        asked = Asked(config)
        wait = {"head": "5s", "body": "5s", "idle": "5s", **asked.timeouts}
        rules = []
        for path, status, to in asked.answers:
            test = f"path_beg {path}" if path.endswith("/") else f"path {path}"
            act = f"redirect location {to} code {status}" if to else f"return status {status}"
            rules.append(f"    http-request {act} if {{ {test} }}")
        return f"""global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client {wait["body"]}
    timeout server 5s
    timeout http-request {wait["head"]}
    timeout http-keep-alive {wait["idle"]}
    http-reuse safe
frontend web
    bind fd@${{LISTEN}}
    option forwardfor
    http-request return status 200 content-type text/plain string watch if {{ path /_sentinel }}
{chr(10).join(rules)}
    default_backend origin
backend origin
    server one {asked.origin}
"""

    def command(self, target: Path, listener: int) -> list[str]:
        """The listening socket is named in the configuration."""
        del listener
        return [str(self.path()), "-db", "-f", str(target)]


class Given:
    """Whatever listens at an address, in front of the origin: rows of the common configuration only."""

    has_sentinel = False
    trust = None
    shows = None
    at: tuple[str, int]

    def __init__(self, config: Config) -> None:
        asked = Asked(config)
        if asked.answers or asked.timeouts:
            raise UnsupportedError("needs a configuration of its own")

    def address(self, listener: str) -> Address:
        """Where it accepts."""
        del listener
        return self.at

    def close(self) -> None:
        """It is not ours to stop."""


class Asked:
    """What a configuration asks for, as far as other proxies have a word for it; otherwise `UnsupportedError`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.timeouts: dict[str, str] = {}
        self.answers: list[tuple[str, int, str]] = []
        (upstream,) = config["upstreams"].values() if len(config["upstreams"]) == 1 else (None,)
        if upstream is None or set(upstream) != {"endpoints"}:
            raise UnsupportedError("asks for upstreams of its own")
        self.origin = upstream["endpoints"][0]
        for listener in config["listeners"].values():
            if extra := set(listener) - {"bind", "timeouts"}:
                raise UnsupportedError(f"asks for {', '.join(sorted(extra))}")
            self.timeouts |= listener.get("timeouts", {})
        for route in config["routes"]:
            self._read_route(route)

    def _read_route(self, route: dict[str, Any]) -> None:
        if route.get("name") == "sentinel":
            return
        if "filters" in route:
            raise UnsupportedError("asks for filters")
        answer = route.get("respond") or route.get("redirect")
        if answer is None:
            return
        match = route.get("match", "")
        paths = _PATH.findall(match) + re.findall(r'startswith\("([^"]+)"\)', match)
        self.answers += [(path, answer.get("status", 200), answer.get("to", "")) for path in paths]


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
