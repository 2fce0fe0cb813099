"""Malformed, huge and hostile uploads: each gets a 4xx that says why in JSON, and the next good request its answer."""

import json
import re
import socket
import struct
import time
import zlib
from io import BytesIO

import httpx
import pytest
from PIL import Image
from serving import GREEN, picture, received, serving, until

PNG = b"\x89PNG\r\n\x1a\n"
FORM = {"type": "multipart/form-data; boundary=B"}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width=30_000, height=30_000):
    """A PNG of 1-bit pixels, all black, which is small until it is decoded."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_bomb():
    """A PNG with a compressed text of 64 MB."""
    plain = picture()
    text = b"Comment\x00\x00" + zlib.compress(bytes(64 << 20), 9)
    return plain[:33] + chunk(b"zTXt", text) + plain[33:]


def noise(size):
    return Image.effect_noise(size, 80).convert("RGB")


def saved(image, format, **options):
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def part(name="image", content=b"", extra=""):
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + content + b"\r\n"


WHOLE_JPEG = saved(noise((300, 200)), "JPEG")
WHOLE_PNG = saved(noise((300, 200)), "PNG")
SPOILT_PNG = WHOLE_PNG[:2000] + bytes(200) + WHOLE_PNG[2200:]

BODIES = {  # name: (body, what else of the request, status, beginning of the error)
    "empty": (b"", {}, 400, "the body is empty"),
    "empty chunked": (iter(()), {}, 400, "the body is empty"),
    "text": (b"hello", {}, 415, "this is no image that can be read"),
    "zeros": (bytes(100_000), {}, 415, "this is no image that can be read"),
    "html as an image": (b"<html><script>alert(1)</script>", {"type": "image/png"}, 415, "this is no image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', {"type": "image/svg+xml"}, 415, "this is no image"),
    "json type": (b"{}", {"type": "application/json"}, 415, "a body of the type 'application/json' is no image"),
    "form-urlencoded": (
        picture(), {"type": "application/x-www-form-urlencoded"}, 415, "a body of the type 'application/x-www"),
    "gzipped": (picture(), {"headers": {"Content-Encoding": "gzip"}}, 415, "a Content-Encoding is not decoded"),
    "PostScript": (saved(noise((9, 9)), "EPS"), {}, 415, "images in the format EPS are not read"),
    "PDF": (saved(noise((9, 9)), "PDF"), {}, 415, "this is no image"),
    "icon": (saved(noise((32, 32)), "ICO"), {}, 415, "images in the format ICO are not read"),
    "truncated JPEG": (WHOLE_JPEG[: len(WHOLE_JPEG) // 2], {}, 422, "the image cannot be decoded"),
    "JPEG header only": (WHOLE_JPEG[:30], {}, 422, "the image"),
    "truncated PNG": (WHOLE_PNG[: len(WHOLE_PNG) // 2], {}, 422, "the image cannot be decoded"),
    "spoilt PNG": (SPOILT_PNG, {}, 422, "the image cannot be decoded"),
    "PNG without size": (PNG + chunk(b"IHDR", b""), {}, 422, "the image's header is spoilt"),
    "PNG of no pixels": (PNG + chunk(b"IHDR", bytes(13)), {}, 415, "this is no image"),
    "PNG signature only": (PNG, {}, 415, "this is no image"),
    "GIF cut short": (picture(format="GIF")[:20], {}, 415, "this is no image"),
    "bomb": (bomb(), {}, 413, "the image has more than 1,000,000 pixels"),
    "small bomb": (bomb(1016, 1000), {}, 413, "the image has more than 1,000,000 pixels"),
    "text bomb": (text_bomb(), {}, 422, "the image's header is spoilt: ValueError"),
    "floating point": (saved(noise((9, 9)).convert("F"), "TIFF"), {}, 422, "the image cannot be decoded: mode F"),
    "too long": (bytes(2_000_001), {}, 413, "the body is longer than 2 MB"),
    "too long, chunked": ((bytes(50_000) for _ in range(50)), {}, 413, "the body is longer than 2 MB"),
    "form without boundary": (b"x", {"type": "multipart/form-data"}, 400, "the form cannot be read"),
    "form of noise": (b"x" * 1000, FORM, 400, "the form cannot be read"),
    "form without end": (part(content=picture()), FORM, 400, "the form has no fields 'image'"),
    "wrong field": (part("photo", picture()) + b"--B--\r\n", FORM, 400, "the form has no fields 'image'"),
    "field without a name": (
        b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n", FORM, 400, "the form cannot be read"),
    "two images": (2 * part(content=picture()) + b"--B--\r\n", FORM, 400, "the form has 2 fields 'image'"),
    "empty field": (part(extra='; filename="a.png"') + b"--B--\r\n", FORM, 422, "the form's field 'image' is empty"),
    "thousands of fields": (
        b"".join(part(f"f{n}", b"x") for n in range(20_000)), FORM, 400, "the form cannot be read: more than 8 fields"),
    "long boundary": (
        part(), {"type": f"multipart/form-data; boundary={'B' * 9000}"}, 400, "the form cannot be read"),
    "endless part header": (b"--B\r\nX: " + b"a" * 1_000_000, FORM, 400, "the form cannot be read"),
    "no image in a form": (part(content=b"hello") + b"--B--\r\n", FORM, 415, "this is no image"),
    "top 0": (picture(), {"params": {"top": 0}}, 422, "top: Input should be greater than or equal to 1"),
    "top of words": (picture(), {"params": {"top": "many"}}, 422, "top: Input should be a valid integer"),
    "top too long": (picture(), {"params": {"top": "9" * 5000}}, 422, "top: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_and_the_server_lives(server, name):
    body, rest, status, error = BODIES[name]
    answer = server.post(body, **rest)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json()["error"].startswith(error)
    assert server.is_well()


def test_there_are_many():
    assert len(BODIES) >= 20


ODD = {
    "animation": saved(
        Image.new("RGB", (40, 40), GREEN), "GIF", save_all=True, append_images=[noise((40, 40))] * 50
    ),
    "spoilt EXIF": picture(GREEN, format="JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\xff" * 40),
    "bytes after the end": picture(GREEN) + b"PK\x03\x04" * 1000,
    "palette with transparency": saved(Image.new("RGBA", (40, 40), (*GREEN, 255)).convert("P"), "PNG"),
    "one pixel": picture(GREEN, (1, 1)),
    "a thread": picture(GREEN, (1, 20_000)),
    "CMYK": picture(GREEN, format="JPEG", mode="CMYK"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_is_answered(server, name):
    assert server.post(ODD[name]).json()["classes"][0]["name"] == "green"


def test_thousands_of_tiny_chunks_are_a_body(server):
    content = picture(GREEN) + bytes(20_000)
    answer = server.post(bytes([byte]) for byte in content)
    assert answer.json()["classes"][0]["name"] == "green"


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/predict", 405), ("PUT", "/predict", 405), ("DELETE", "/", 405), ("POST", "/health", 405),
    ("BREW", "/predict", 405), ("GET", "/nothing", 404), ("GET", "/../../etc/passwd", 404), ("POST", "/predict/", 404),
])  # fmt: skip
def test_a_wrong_method_or_path(server, method, path, status):
    answer = server.client.request(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert ("allow" in answer.headers) == (status == 405)
    assert server.is_well()


def request(*headers, body=b"", line="POST /predict HTTP/1.1"):
    return "\r\n".join([line, "Host: here", *headers, "", ""]).encode() + body


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


NOT_HTTP = {
    "a negative length": request("Content-Length: -1", body=b"x"),
    "a length of words": request("Content-Length: many", body=b"x"),
    "two lengths": request("Content-Length: 1", "Content-Length: 2", body=b"x"),
    "a bad chunk": request("Transfer-Encoding: chunked", body=b"zz\r\nx\r\n"),
    "an unknown coding": request("Transfer-Encoding: gzip", body=b"x"),
    "no host": b"POST /predict HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "noise": b"\x00\xff" * 500 + b"\r\n\r\n",
    "endless headers": request("X: " + "a" * 200_000),
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_not_http_is_refused(server, name):
    answer = server.raw(NOT_HTTP[name])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert 400 <= status_of(answer) < 600
    assert b"application/json" in head
    assert json.loads(body)["error"]
    assert server.is_well()


def test_a_body_longer_than_its_length_is_cut(server):
    content = picture(GREEN)
    answer = server.raw(request(f"Content-Length: {len(content) - 30}", body=content + b"\r\n\r\n"))
    assert [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", answer)] == [422, 400]
    assert server.is_well()


def test_a_length_that_is_too_long_is_refused_before_a_byte_arrives(server):
    started = time.monotonic()
    answer = server.raw(request("Content-Length: 99999999999"))
    assert (status_of(answer), b"connection: close" in answer) == (413, True)
    assert time.monotonic() - started < 5
    assert server.is_well()


def test_a_client_that_waits_to_be_asked_is_refused_without_sending(server):
    answer = server.raw(request("Content-Length: 99999999", "Expect: 100-continue"))
    assert (status_of(answer), b"100 Continue" in answer) == (413, False)


def test_a_refusal_reaches_a_client_that_goes_on_sending(server):
    answer = server.raw(request("Content-Length: 30000000"), *[bytes(1_000_000)] * 30)
    assert status_of(answer) == 413
    assert b"longer than 2 MB" in answer
    assert server.is_well()


def test_a_client_that_leaves_in_the_middle_costs_nothing(server):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request("Content-Length: 1000000", body=bytes(5000)))
    assert until(lambda: server.service.uploads.held == 0)
    assert server.is_well()


@pytest.fixture(scope="module")
def hasty():
    """A server that waits half a second for anything."""
    with serving(timeout=0.5) as running:
        yield running


def test_a_body_that_does_not_end_is_given_up(hasty):
    for headers in (["Content-Length: 1000"], ["Transfer-Encoding: chunked"]):
        answer = hasty.raw(request(*headers))
        assert status_of(answer) == 408
        assert b'"the body did not arrive within 0.5 s"' in answer
    assert until(hasty.is_well)


def test_a_body_that_drips_is_given_up(hasty):
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as connection:
        connection.sendall(request("Content-Length: 100000"))
        for _ in range(8):
            connection.sendall(b"x")
            time.sleep(0.1)
        assert status_of(received(connection)) == 408
    assert until(hasty.is_well)


@pytest.mark.parametrize("beginning", [b"", b"POST /predict HTTP/1.1\r\nHost:"])
def test_a_connection_that_says_nothing_is_closed(hasty, beginning):
    started = time.monotonic()
    assert hasty.raw(beginning) == b""
    assert time.monotonic() - started < 5
    assert until(hasty.is_well)


def test_two_hundred_silent_connections_keep_nobody_out(hasty):
    silent = [socket.create_connection(("127.0.0.1", hasty.port)) for _ in range(200)]
    assert until(hasty.is_well)
    assert until(
        lambda: not hasty.server.server_state.connections - {None} or len(hasty.server.server_state.connections) <= 1
    )
    for connection in silent:
        connection.close()


def test_all_uploads_together_are_bounded():
    with serving(max_bytes=70_000_000) as running:
        running.service.uploads.held = running.service.settings.max_held
        answer = running.post(picture())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json() == {"error": "too many uploads are under way", "hint": "try again"}
        running.service.uploads.held = 0
        assert running.is_well()


def test_the_server_says_little_of_itself(server):
    headers = server.client.get("/health").headers
    assert ("server" in headers, headers["x-content-type-options"]) == (False, "nosniff")
    assert httpx.get(f"{server.url}openapi.json").status_code == 404
