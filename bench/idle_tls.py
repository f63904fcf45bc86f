"""Opens many connections with TLS, asks once on each and leaves them idle: `idle_tls.py PORT COUNT CERTIFICATE`.

What `bench/programs/src/bin/idle_client.rs` does in clear: prints `open N` when all have been answered; each line on
standard input asks for one more request on every connection (`served N` counts those that were answered).
"""

import socket
import ssl
import sys

PATIENCE = 20.0
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
BODY = b"x" * 128


def main(port: int, count: int, certificate: str) -> None:
    """Runs until its input ends."""
    context = ssl.create_default_context(cafile=certificate)
    connections = []
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        connection = context.wrap_socket(plain, server_hostname="127.0.0.1")
        if not answered(connection):
            raise SystemExit("a request was not answered")
        connections.append(connection)
    print(f"open {len(connections)}", flush=True)
    for _ in sys.stdin:
        print(f"served {sum(answered(one) for one in connections)}", flush=True)


def answered(connection: ssl.SSLSocket) -> bool:
    """One request, and whether its whole answer came."""
    answer = b""
    try:
        connection.sendall(REQUEST)
        while not answer.endswith(b"\r\n\r\n" + BODY):
            piece = connection.recv(4096)
            if not piece:
                return False
            answer += piece
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200 ")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
