"""WebSockets on streams of HTTP/2 (RFC 8441), with the frames of a real library: a client's end, and servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes, Settings
from tests.http2 import WHERE, Client, data, room
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol

if TYPE_CHECKING:
    import ssl

    from websockets.sync.server import ServerConnection

ASK = (
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    *WHERE,
    (":path", "/chat?room=1"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "chat"),
)


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


class WebSocket:
    """A client's end, with the frames of a real library."""

    def __init__(self, client: Client, stream: int) -> None:
        self._client, self._stream, self._seen = client, stream, 0
        self._protocol = Protocol(CLIENT, max_size=None)
        client.send(client.headers(stream, ASK, ends=False))
        client.read_until(lambda: client.streams[stream].heads)
        assert client.streams[stream].status == 200

    def _send(self, piece: bytes) -> None:
        client, credit = self._client, self._client.credit
        client.read_until(lambda: len(piece) <= min(credit[self._stream] + client.window, credit[0] + 65_535))
        credit[self._stream] -= len(piece)
        credit[0] -= len(piece)
        self._client.send(data(self._stream, piece, ends=False))

    def exchange(self, message: bytes) -> bytes:
        """Send a message and wait for the next."""
        self._protocol.send_binary(message)
        parts: list[bytes] = []
        for bytes_out in self._protocol.data_to_send():
            for at in range(0, len(bytes_out), 16_384):
                self._send(bytes_out[at : at + 16_384])
        while True:
            body = self._client.streams[self._stream].body
            if len(body) > self._seen:
                fresh, self._seen = body[self._seen :], len(body)
                self._client.send(room(0, len(fresh)), room(self._stream, len(fresh)))
                self._protocol.receive_data(fresh)
                for event in self._protocol.events_received():
                    assert isinstance(event, Frame)
                    assert event.opcode in {Opcode.BINARY, Opcode.CONT}
                    parts.append(bytes(event.data))
                    if event.fin:
                        return b"".join(parts)
            else:
                self._client.read_until(lambda: len(self._client.streams[self._stream].body) > self._seen)


class Server:
    """Echoes messages on streams of HTTP/2, or of nothing but requests if it has no WebSockets."""

    def __init__(self, shows: ssl.SSLContext | None = None, *, websockets: bool = True) -> None:
        self._shows, self._websockets = shows, websockets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self.asked: list[dict[bytes, bytes]] = []
        """Heads of requests."""
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock = self._shows.wrap_socket(raw, server_side=True) if self._shows else raw
            self.connections.append(sock)
            with sock:
                _Streams(self, sock, websockets=self._websockets).run()


class _Streams:
    """One connection of a [`Server`]."""

    def __init__(self, server: Server, sock: socket.socket, *, websockets: bool) -> None:
        self._server, self._sock = server, sock
        self._open: dict[int, Protocol] = {}
        self._unsent: dict[int, bytes] = {}
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self._http = h2.connection.H2Connection(config)
        if websockets:
            told = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1, SettingCodes.MAX_CONCURRENT_STREAMS: 100}
            self._http.local_settings = Settings(client=False, initial_values=told)
        self._http.initiate_connection()

    def run(self) -> None:
        """Serve it to its end."""
        while True:
            self._sock.sendall(self._http.data_to_send())
            if not (received := self._sock.recv(65_536)):
                return
            for event in self._http.receive_data(received):
                self._take(event)
            for stream in list(self._unsent):
                self._send(stream)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            head = dict(event.headers)
            self._server.asked.append(head)
            if head.get(b":protocol") == b"websocket":
                fields = [(b":status", b"200"), (b"sec-websocket-protocol", head[b"sec-websocket-protocol"])]
                self._http.send_headers(event.stream_id, fields)
                self._open[event.stream_id] = Protocol(SERVER, max_size=None)
            else:
                self._http.send_headers(event.stream_id, [(b":status", b"200")], end_stream=True)
        elif isinstance(event, h2.events.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._echo(event.stream_id, event.data)
        elif isinstance(event, h2.events.StreamReset):
            self._open.pop(event.stream_id, None)
            self._unsent.pop(event.stream_id, None)

    def _echo(self, stream: int, received: bytes) -> None:
        if not (protocol := self._open.get(stream)):
            return  # closed, and nothing but the end of the stream
        protocol.receive_data(received)
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.BINARY:
                protocol.send_binary(event.data, fin=event.fin)
            elif event.opcode is Opcode.TEXT:
                protocol.send_text(event.data, fin=event.fin)
            elif event.opcode is Opcode.CONT:
                protocol.send_continuation(event.data, fin=event.fin)
        for piece in protocol.data_to_send():
            if piece:
                self._unsent[stream] = self._unsent.get(stream, b"") + piece
            else:
                self._send(stream)
                self._http.end_stream(stream)
                del self._open[stream]

    def _send(self, stream: int) -> None:
        """As much as the window takes."""
        waiting = self._unsent.pop(stream, b"")
        while waiting and (most := min(self._http.local_flow_control_window(stream), 16_384)):
            self._http.send_data(stream, waiting[:most])
            waiting = waiting[most:]
        if waiting:
            self._unsent[stream] = waiting
