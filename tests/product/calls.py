"""A gRPC service without generated code: messages are bytes, and each method does one thing that a test asks for."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "shop.Cart"
PIECE = bytes(64 * 1024)


class Shop:
    """A server of gRPC on a port of the system's."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        self.cancelled = threading.Event()
        self.seen: list[tuple[str, dict[str, str], float | None]] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        handlers = {
            "Get": grpc.unary_unary_rpc_method_handler(self._get),
            "List": grpc.unary_stream_rpc_method_handler(self._list),
            "Sum": grpc.stream_unary_rpc_method_handler(self._sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
            "Flood": grpc.unary_stream_rpc_method_handler(self._flood),
            "Hang": grpc.unary_stream_rpc_method_handler(self._hang),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.serves(True)
        address = f"127.0.0.1:{port}"
        if credentials:
            self.port = self.server.add_secure_port(address, credentials)
        else:
            self.port = self.server.add_insecure_port(address)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(None).wait()

    @property
    def address(self) -> str:
        """As an endpoint is written in a configuration."""
        return f"127.0.0.1:{self.port}"

    def serves(self, serving: bool) -> None:
        """What the health service says of the server."""
        status = health_pb2.HealthCheckResponse
        self.health.set("", status.SERVING if serving else status.NOT_SERVING)

    def _note(self, method: str, context: grpc.ServicerContext) -> None:
        fields = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        self.seen.append((method, fields, context.time_remaining()))

    def _get(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._note("Get", context)
        if request.startswith(b"fail"):
            context.set_trailing_metadata((("x-why", "because"), ("x-why-bin", b"\0\xff")))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nicht möglich: 100 %\n")
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"),))
        return b"got " + request

    def _list(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note("List", context)
        for number in range(int(request)):
            yield b"%d" % number

    def _sum(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._note("Sum", context)
        return b"%d" % sum(len(request) for request in requests)

    def _chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note("Chat", context)
        for request in requests:
            yield b"re: " + request

    def _flood(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(int(request)):
            yield PIECE

    def _hang(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Says one word, then nothing until the call is over."""
        self._note("Hang", context)
        over = threading.Event()

        def end() -> None:
            over.set()
            self.cancelled.set()

        # One that is over is not asked for its next word: what it does behind the first may never run.
        if not context.add_callback(end):
            end()
        if request:
            yield request
        over.wait(30)


def call(channel: grpc.Channel, method: str) -> Any:
    """A method of the service, as a callable."""
    kinds = {"Get": channel.unary_unary, "Sum": channel.stream_unary, "Chat": channel.stream_stream}
    return kinds.get(method, channel.unary_stream)(f"/{SERVICE}/{method}")


def dial(address: tuple[str, int], trust: bytes | None = None) -> grpc.Channel:
    """A channel to the proxy, with TLS if somebody is trusted. It connects anew for each: channels of grpc share."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    target = f"{address[0]}:{address[1]}"
    if trust is None:
        return grpc.insecure_channel(target, options)
    secure = (*options, ("grpc.ssl_target_name_override", "shop.example"))
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(trust), secure)
