"""nginx: a server whose log tells what it read, in front of one that answers."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.differential.readers import Reading, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
_WAIT = 20.0
_KNOWN_METHOD = re.compile(r"[A-Z_-]+")
"""nginx refuses methods with other characters; RFC 9110 allows any token."""
_ONCE = re.compile(
    rb"\r\n(authorization|date|depth|destination|if-match|if-modified-since|if-none-match|if-range"
    rb"|if-unmodified-since|keep-alive|overwrite|range):.*\r\n\1:",
    re.IGNORECASE | re.DOTALL,
)
"""nginx refuses a second field of these names; what it means is the endpoint's to say, and frames nothing."""
_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit; events {{}}
http {{
    log_format reading escape=json
        '{{"c":$connection,"m":"$request_method","t":"$request_uri","s":$status,"b":"$request_body"}}';
    access_log {folder}/log reading;
    client_body_temp_path {folder}/t0; proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2;
    uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
    client_body_buffer_size 1m; client_max_body_size 0; large_client_header_buffers 8 128k;
    keepalive_requests 1000000; lingering_close off;
    upstream answering {{ server unix:{folder}/answering.sock; keepalive 4; }}
    server {{
        listen unix:{folder}/reading.sock;
        location / {{
            proxy_pass http://answering; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_method GET; proxy_pass_request_body off; proxy_set_header Content-Length "";
            proxy_ignore_client_abort on;
        }}
    }}
    server {{ listen unix:{folder}/answering.sock; access_log off; location / {{ return 200; }} }}
}}
"""


class NginxReader:
    """One running nginx. Connections are told apart by a first request of ours, which names them."""

    def __init__(self) -> None:
        self.refused = 0
        """Requests that nginx refuses for what is right; each is sent alone, so that what follows is read."""

    def __enter__(self) -> Self:
        if PROGRAM is None:
            raise RuntimeError("nginx is not installed (make debian)")
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-"))
        config = self._folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=self._folder))
        self._process = subprocess.Popen(
            [PROGRAM, "-p", str(self._folder), "-c", str(config)], stderr=subprocess.DEVNULL
        )
        self._await_start()
        self._log = (self._folder / "log").open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_WAIT)
        self._log.close()
        shutil.rmtree(self._folder)

    def read(self, recordings: Sequence[bytes], others: Sequence[Reading]) -> list[Reading]:
        """One reading for each; `others` says where requests begin, so that those it refuses can be cut out."""
        names: list[list[int]] = []
        refused: list[set[int]] = []
        sent = 0
        for recording, other in zip(recordings, others, strict=True):
            refused.append({place for place in range(len(other.requests)) if _is_refused(recording, other, place)})
            cuts = {other.starts[edge] for place in refused[-1] for edge in (place, place + 1)}
            pieces = [recording[a:b] for a, b in pairwise(sorted(cuts | {0, len(recording)}))]
            names.append(list(range(sent, sent + len(pieces))))
            for name, piece in enumerate(pieces, sent):
                self._send(b"GET /connection/%d HTTP/1.1\r\nHost: a\r\n\r\n" % name + piece)
            sent += len(pieces)
        found = self._told()
        return [
            self._joined([row for name in of_one for row in found.get(name, [])], other, without)
            for of_one, other, without in zip(names, others, refused, strict=True)
        ]

    def _send(self, content: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_WAIT)
            connection.connect(str(self._folder / "reading.sock"))
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                return  # nginx closed behind a refusal; its log tells

    def _told(self) -> dict[int, list[dict[str, object]]]:
        """The log's rows since the last call, by the name of their connection. A row is written before its connection
        ends, so all of them are there."""
        names: dict[int, int] = {}
        rows: dict[int, list[dict[str, object]]] = {}
        for line in self._log.read().splitlines():
            row = json.loads(line.decode("latin-1"))
            if row["c"] not in names:
                names[row["c"]] = int(row["t"].rpartition("/")[2])
                rows[names[row["c"]]] = []
            else:
                rows[names[row["c"]]].append(row)
        return rows

    def _joined(self, rows: list[dict[str, object]], other: Reading, refused: set[int]) -> Reading:
        requests: list[Request] = []
        end = "whole"
        for row in rows:
            if row["s"] == 200:
                requests.append(Request(str(row["m"]), str(row["t"]), str(row["b"]).encode("latin-1")))
            elif row["s"] != 400:
                raise RuntimeError(f"nginx cannot answer: {row}")
            elif len(requests) in refused:
                self.refused += 1
                requests.append(other.requests[len(requests)])
            else:
                end = "partial"
        return Reading(requests, end)  # type: ignore[arg-type]

    def _await_start(self) -> None:
        # nginx listens before it is ready to be asked; the socket's file is there from then on.
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"nginx does not start: {(self._folder / 'error.log').read_text()}")
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(self._folder / "reading.sock"))
                    return
            except (FileNotFoundError, ConnectionRefusedError):
                continue


def _is_refused(recording: bytes, reading: Reading, place: int) -> bool:
    if not _KNOWN_METHOD.fullmatch(reading.requests[place].method):
        return True
    start = reading.starts[place]
    return bool(_ONCE.search(recording, start, recording.index(b"\r\n\r\n", start)))
