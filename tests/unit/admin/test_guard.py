import pytest

from penstock.admin.guard import refusal


@pytest.mark.parametrize("host", ["localhost", "localhost:9901", "127.0.0.1:9901", "127.1.2.3", "[::1]:9901"])
def test_this_computer_may_ask(host: str) -> None:
    assert refusal("GET", {"host": host}) is None
    assert refusal("HEAD", {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0",
     "127.0.0.1@evil.example", "localhost/", "[::1", "localhost:x", "127.0.0.1:9901,evil.example"],
)  # fmt: skip
def test_another_host_is_refused(host: str) -> None:
    assert refusal("GET", {"host": host}) == (403, "the Host is not this computer")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:9901"},
        {"origin": "http://127.0.0.1:8080"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-mode": "no-cors"},
    ],
)
def test_a_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    found = refusal("GET", {"host": "127.0.0.1:9901", **headers})
    assert found is not None
    assert found[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_questions_are_answered(method: str) -> None:
    found = refusal(method, {"host": "127.0.0.1:9901"})
    assert found is not None
    assert found[0] == 405
