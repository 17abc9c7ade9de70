"""Who is let in: from where, with which key, how much, how fast."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from contextlib import suppress

import pytest

from spherecv.serve import create_app, gate
from spherecv.serve.gate import is_local
from spherecv.serve.keys import ApiKeys, new_key


def kind_of(response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["type"].rpartition(":")[2]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("localhost:8000", True), ("127.0.0.1:80", True), ("127.8.8.8", True),
        ("[::1]:8000", True), ("x.localhost", True), ("0.0.0.0", False), ("evil.example", False),
        ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("192.168.1.7:8000", False),
        ("", False), ("[::", False), ("[fe80::1]", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host, local) -> None:
    assert is_local(host) is local


def test_without_keys_other_machines_and_other_sites_stay_out(client, tools) -> None:
    files = {"img": tools.red}
    for headers in (
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"x-forwarded-for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
    ):
        refused = client.post("/v1/detect", files=files, headers=headers)
        assert (refused.status_code, kind_of(refused)) == (403, "forbidden"), headers
    own = f"http://{client.base_url.netloc.decode()}"
    for headers in ({}, {"origin": own, "sec-fetch-site": "same-origin"}):
        assert client.post("/v1/detect", files=files, headers=headers).status_code == 200
    assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
    allowed = client.options("/v1/detect", headers={"origin": "http://evil.example"}).headers
    assert not any(name.startswith("access-control") for name in allowed)


@pytest.mark.parametrize(
    ("caller", "status"),
    [(("203.0.113.9", 5), 403), (("2001:db8::1", 5), 403), (("127.0.0.1", 5), 200), (("::1", 5), 200), (None, 200)],
)
def test_without_keys_the_callers_address_counts_whatever_server_listens(staged, caller, status) -> None:
    service = staged.make()
    answered = []

    async def ask() -> None:
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message) -> None:
            answered.append(message.get("status"))

        scope = {
            "type": "http", "method": "GET", "path": "/v1/models", "raw_path": b"/v1/models", "query_string": b"",
            "headers": [(b"host", b"localhost")], "client": caller, "scheme": "http", "http_version": "1.1",
            "server": ("localhost", 80), "root_path": "",
        }  # fmt: skip
        await create_app(service)(scope, receive, send)

    asyncio.run(ask())
    service.close()
    assert answered[0] == status


def test_with_keys_everything_but_the_page_needs_one(staged, tools, tmp_path) -> None:
    key, line = new_key("laptop")
    keys = ApiKeys({"laptop": line.rpartition(":")[2]})
    with tools.serving(staged.make(tmp_path / "people.db"), keys) as client:
        places = (("POST", "/v1/detect"), ("GET", "/v1/models"), ("GET", "/v1/gallery"), ("DELETE", "/v1/gallery/A"),
                  ("GET", "/metrics"), ("GET", "/v1/nothing"))  # fmt: skip
        for method, path in places:
            for headers in ({}, {"authorization": "Bearer no"}, {"x-api-key": "no"}, {"authorization": f"Basic {key}"},
                            {"authorization": "Bearer"}, {"authorization": "Bearer " + key + "x"}):  # fmt: skip
                refused = client.request(method, path, headers=headers)
                assert (refused.status_code, kind_of(refused)) == (401, "missing-key"), (path, headers)
                assert refused.headers["www-authenticate"].startswith("Bearer")
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}, {"authorization": f"bearer  {key}"}):
            assert client.post("/v1/detect", files={"img": tools.red}, headers=headers).status_code == 200
            assert client.get("/metrics", headers=headers).status_code == 200
        open_to_all = ("/", "/page/app.js", "/healthz", "/openapi.json")
        assert {client.get(path).status_code for path in open_to_all} == {200}
        proxied = {"x-api-key": key, "host": "faces.example", "x-forwarded-for": "203.0.113.9"}
        assert client.get("/v1/models", headers=proxied).status_code == 200
        schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
        assert schemes == {"key": {"type": "http", "scheme": "bearer"}}


def test_a_body_that_is_too_large_is_refused_before_and_while_it_comes(staged, tools) -> None:
    with tools.serving(staged.make(max_body=100_000)) as client:
        announced = client.post("/v1/detect", files={"img": bytes(3_000_000)})
        assert (announced.status_code, kind_of(announced)) == (413, "too-large")
        headers = {"content-type": "application/json"}
        streamed = client.post("/v1/detect", content=(b"x" * 10_000 for _ in range(30)), headers=headers)
        assert streamed.status_code == 413
        connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=tools.patience)
        waits = {**headers, "Content-Length": "9" * 18, "Expect": "100-continue"}
        connection.request("POST", "/v1/detect", headers=waits)
        assert connection.getresponse().status == 413  # at once, not when all of it came
        connection.close()
        assert client.post("/v1/detect", files={"img": tools.red}).status_code == 200


def test_who_is_still_sending_when_refused_gets_the_answer(staged, tools, monkeypatch) -> None:
    """Nothing announces how large it is; a connection closed with bytes unread would be reset, and the answer lost."""
    monkeypatch.setattr(gate, "_DRAIN_SECONDS", tools.patience)
    with tools.serving(staged.make(max_body=1_000_000)) as client:
        address = (client.base_url.host, client.base_url.port)
        head = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        piece = b"x" * 50_000
        for _ in range(3):
            with socket.create_connection(address, timeout=tools.patience) as connection:
                connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for _ in range(38):
                    connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                connection.sendall(b"0\r\n\r\n")
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"urn:spherecv:problem:too-large" in answer


def test_slow_callers_are_not_waited_for(staged, tools) -> None:
    with tools.serving(staged.make(receive_limit=1.0)) as client:
        address = (client.base_url.host, client.base_url.port)

        def told(*pieces: bytes) -> bytes:
            """What a caller gets who sends this and then nothing; empty for a closed connection."""
            with socket.create_connection(address, timeout=tools.patience) as connection:
                with suppress(ConnectionError):  # a caller who is slower still finds it closed
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(0.05)
                data = b""
                while chunk := connection.recv(65536):
                    data += chunk
                return data

        head = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
        assert told() == b""
        assert told(head) == b""
        late = told(head + b"\r\n", b"{")
        assert late.startswith(b"HTTP/1.1 408 ")
        assert b"urn:spherecv:problem:too-slow" in late
        assert told(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /hea").count(b"HTTP/1.1 ") == 1
        assert client.get("/healthz").status_code == 200


def test_what_is_no_http_is_a_problem_too(client) -> None:
    address = (client.base_url.host, client.base_url.port)
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(nonsense)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
    assert client.get("/healthz").status_code == 200


def test_callers_who_go_away_are_no_faults(client, tools) -> None:
    address = (client.base_url.host, client.base_url.port)
    for kind in (b"application/json", b"multipart/form-data; boundary=x"):
        head = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\nContent-Type: " + kind
        with socket.create_connection(address, timeout=tools.patience) as connection:
            connection.sendall(head + b"\r\n\r\n--x")
    waited = time.monotonic() + tools.patience
    while 'operation="detect",status="400"} 2.0' not in client.get("/metrics").text.replace('method="POST",', ""):
        assert time.monotonic() < waited
        assert 'status="500"' not in client.get("/metrics").text
        time.sleep(0.01)


def test_answers_tell_browsers_to_be_careful(client) -> None:
    for path in ("/", "/page/app.js", "/v1/models", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert client.get("/v1/models").headers["cache-control"] == "no-store"
