"""For platforms with many tenants: a Python file that defines `config`, so that a list becomes routes."""

from penstock import Config, Listener, Route, Upstream

TENANTS = {"north": "127.0.0.1:9000", "south": "127.0.0.1:9001"}

config = Config(
    listeners={"web": Listener(bind=":8080")},
    upstreams={name: Upstream(endpoints=[address]) for name, address in TENANTS.items()},
    routes=[
        Route(
            name=name,
            match=f'host == "{name}.tenants.example"',
            upstream=name,
            filters=[{"set_request_header": {"X-Tenant": name}}],
        )
        for name in TENANTS
    ],
)
