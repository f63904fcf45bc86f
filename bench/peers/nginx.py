"""nginx: one worker, and a pool of upstream connections, which it does not have by default."""

import os
from pathlib import Path

from bench.peers.base import FOREVER, POOL, Peer, Scenario, program, version_in

# The fields of Penstock's own record, as far as nginx knows them.
_LOG_FORMAT = """log_format record escape=json '{"time":"$time_iso8601","listener":"web","client":"$remote_addr",'
        '"method":"$request_method","host":"$http_host","path":"$request_uri","version":"$server_protocol",'
        '"status":$status,"bytes_in":$request_length,"bytes_out":$bytes_sent,"duration":$request_time,'
        '"upstream":"$proxy_host","endpoint":"$upstream_addr","connect":"$upstream_connect_time",'
        '"head":"$upstream_header_time","response":"$upstream_response_time","request_id":"$request_id",'
        '"user_agent":"$http_user_agent","referer":"$http_referer"}';"""


_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_RELAY = """load_module {module};
daemon off;
{user}
worker_processes 1;
pid {pid};
events {{ worker_connections {connections}; }}
stream {{
    access_log off;
    upstream origin {{ server 127.0.0.1:{origin}; }}
    server {{
        listen 127.0.0.1:{port};
        proxy_pass origin;
        proxy_timeout 300s;
        tcp_nodelay on;
    }}
}}
"""


def _tls(scenario: Scenario) -> str:
    if scenario.tls is None:
        return ""
    files = f"ssl_certificate {scenario.tls.cert}; ssl_certificate_key {scenario.tls.key};"
    return f"{files} ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;"


class Nginx(Peer):
    """nginx, as Debian packages it."""

    name = "nginx"

    def __init__(self, log_buffer: str = "", *, stream: bool = False) -> None:
        """`log_buffer`: how much of its access log it collects before it writes; by default it writes each record.
        `stream`: it is to relay connections, for which Debian has a package of its own."""
        self.log_buffer = log_buffer
        self.stream = stream

    def absent(self) -> str | None:
        if self.stream and not _STREAM.exists():
            return "its module is not installed (Debian: apt install libnginx-mod-stream)"
        return None if program("nginx") else "not installed (Debian: apt install nginx)"

    def version(self) -> str:
        return version_in([program("nginx") or "nginx", "-v"])

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        target = folder / "nginx.conf"
        target.write_text(self._configuration(folder, port, origin, scenario))
        return [program("nginx") or "nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(target)]

    def _configuration(self, folder: Path, port: int, origin: int, scenario: Scenario) -> str:
        # Workers of a master that root started would lose their rights to the temporary folder.
        user = "user root;" if os.getuid() == 0 else ""
        if scenario.tcp:
            return _RELAY.format(
                module=_STREAM,
                user=user,
                pid=folder / "nginx.pid",
                connections=2 * scenario.connections + 64,
                port=port,
                origin=origin,
            )
        log = f"{_LOG_FORMAT}\n    access_log {self.access_log(folder)} record {self.log_buffer};"
        streaming = "proxy_buffering off; proxy_request_buffering off;" if scenario.streaming else ""
        header = f'add_header X-Generation "{scenario.generation}";' if scenario.generation else ""
        temporary = "\n    ".join(
            f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""daemon off;
{user}
worker_processes 1;
pid {folder / "nginx.pid"};
events {{ worker_connections {2 * scenario.connections + 64}; }}
http {{
    {temporary}
    {log if scenario.access_log else "access_log off;"}
    keepalive_timeout 300s;
    keepalive_requests {FOREVER};
    client_max_body_size 0;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive {POOL};
        keepalive_requests {FOREVER};
        keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{port}{" ssl" if scenario.tls else ""}{" http2" if scenario.http2 else ""};
        {_tls(scenario)}
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            {streaming}
            {header}
        }}
    }}
}}
"""
