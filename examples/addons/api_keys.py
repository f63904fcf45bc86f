"""The add-on of api_keys.toml. In earnest, keys would come from a file that is read when the module is loaded."""

import hashlib

import penstock

# Keys are kept as digests, so that neither this file nor the process holds one.
USERS = {hashlib.sha256(b"for tests only").hexdigest(): "ann"}


def request_headers(request: penstock.Request) -> penstock.Response | None:
    """Let in who has a key, and tell the application who that is."""
    key = request.headers.get("x-api-key", "")
    user = USERS.get(hashlib.sha256(key.encode("latin-1")).hexdigest())
    if user is None:
        return penstock.Response(401, {"cache-control": "no-store"}, "an API key is needed\n")
    request.headers.remove("x-api-key")
    request.headers.set("x-user", user)
    return None
