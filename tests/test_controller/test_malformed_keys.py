"""What is sent as a key and is none, byte by byte: no client of a library would send it."""

import json

import pytest

from tests.service import Service, exchange


@pytest.mark.parametrize(
    "key",
    [
        "é".encode(),
        "密钥".encode(),
        b"\xff\xfe\x80",
        b"sk-chatglm-\xc3\xa9" + b"0" * 44,
        b"sk-chatglm-" + b"0" * 50_000,
        b"x" * 50_000,
    ],
    ids=lambda key: repr(key[:16]),
)
@pytest.mark.parametrize("header", [b"Authorization: Bearer ", b"Authorization: ", b"x-api-key: "])
async def test_what_is_no_key_is_refused_whatever_its_characters_and_however_long(
    sqlite_service: Service, header: bytes, key: bytes
) -> None:
    asked = b"GET /v1/models HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" + header + key + b"\r\n\r\n"
    head, _, body = (await exchange(sqlite_service, asked)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert json.loads(body)["error"]["code"] == "invalid_api_key"
