"""HAProxy: one thread; its access log goes to its standard output, which the bench keeps in a file."""

from pathlib import Path

from bench.peers.base import Peer, Scenario, program, version_in

# The fields of Penstock's own record, as far as HAProxy knows them. `%{+E}`: escaped, as JSON needs it.
_LOG_FORMAT = (
    r"{\"time\":\"%Ts.%ms\",\"listener\":\"%f\",\"client\":\"%ci\",\"client_port\":%cp,\"method\":\"%HM\","
    r"\"path\":\"%{+E}HU\",\"version\":\"%HV\",\"status\":%ST,\"bytes_in\":%U,\"bytes_out\":%B,\"duration\":%Ta,"
    r"\"upstream\":\"%b\",\"endpoint\":\"%s\",\"queue\":%Tw,\"connect\":%Tc,\"head\":%Tr,\"flags\":\"%tsc\","
    r"\"retries\":\"%rc\",\"user_agent\":\"%{+E}[capture.req.hdr(0)]\"}"
)


# With `splice-auto` it decides by itself, and copies these transfers.
_RELAY = """global
    nbthread 1
    maxconn {connections}
    no strict-limits
defaults
    mode tcp
    option splice-request
    option splice-response
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend relay
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    server one 127.0.0.1:{origin}
"""


def _speaks(scenario: Scenario) -> str:
    if scenario.tls is None:
        return " proto h2" if scenario.http2 else ""
    alpn = "h2" if scenario.http2 else "http/1.1"
    return f" ssl crt {scenario.tls.both} alpn {alpn} ssl-min-ver TLSv1.3 no-tls-tickets"


class HAProxy(Peer):
    """HAProxy, as Debian packages it."""

    name = "haproxy"

    def absent(self) -> str | None:
        return None if program("haproxy") else "not installed (Debian: apt install haproxy)"

    def version(self) -> str:
        return version_in([program("haproxy") or "haproxy", "-v"])

    def access_log(self, folder: Path) -> Path:
        return folder / "haproxy.out"

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        target = folder / "haproxy.cfg"
        target.write_text(self._configuration(port, origin, scenario))
        return [program("haproxy") or "haproxy", "-db", "-f", str(target)]

    def _configuration(self, port: int, origin: int, scenario: Scenario) -> str:
        if scenario.tcp:
            return _RELAY.format(port=port, origin=origin, connections=scenario.connections)
        log = header = ""
        if scenario.access_log:
            # wrk tries its address once before the load: a connection without a request is no record.
            log = "option dontlognull\n    log stdout format raw local0 info\n"
            log += f'    capture request header User-Agent len 128\n    log-format "{_LOG_FORMAT}"'
        if scenario.generation:
            header = f"http-response set-header X-Generation {scenario.generation}"
        # Bodies are always passed on as they come; `http-reuse always` is the shared pool that the others have.
        return f"""global
    nbthread 1
    maxconn {scenario.connections}
    no strict-limits
    {"tune.ssl.cachesize 0" if scenario.tls else ""}
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    http-reuse always
frontend web
    bind 127.0.0.1:{port}{_speaks(scenario)}
    {log}
    {header}
    default_backend origin
backend origin
    server one 127.0.0.1:{origin}
"""
