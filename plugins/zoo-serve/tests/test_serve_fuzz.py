"""Damaged bodies: whatever is changed in them, the image is decoded or refused, and no other error comes out."""

import random

import pytest
from serving import GREEN, picture, predictor

from zoo_serve.image import image_of
from zoo_serve.refusal import Refused
from zoo_serve.settings import Settings
from zoo_serve.uploads import Upload

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
FORM = "multipart/form-data; boundary=B"
ROUNDS = 60
SETTINGS = Settings(max_pixels=100_000)


def damaged(data, chance):
    """Bytes changed, cut out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place, length = chance.randrange(len(changed) + 1), chance.randint(0, 40)
        piece = chance.choice(
            (b"", chance.randbytes(length), bytes(length), bytes(changed[place : place + length]) * 2)
        )
        changed[place : place + chance.choice((0, 1, length))] = piece
    return bytes(changed[: chance.randrange(len(changed) + 1)] if chance.random() < 0.2 else changed)


def outcome(upload):
    try:
        return tuple(image_of(upload, predictor(), SETTINGS).shape)
    except Refused as refused:
        return refused.status


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_image(format):
    chance, whole = random.Random(0), picture(GREEN, format=format)
    found = {outcome(Upload(damaged(whole, chance), "image/png")) for _ in range(ROUNDS)}
    assert found <= {(3, 32, 32), 413, 415, 422}
    assert len(found) > 1


def test_a_damaged_form():
    chance = random.Random(0)
    head = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    whole = head + picture(GREEN) + b"\r\n--B--\r\n"
    assert outcome(Upload(whole, FORM)) == (3, 32, 32)
    found = [outcome(Upload(damaged(head, chance) + whole[len(head) :], FORM)) for _ in range(5 * ROUNDS)]
    assert set(found) <= {(3, 32, 32), 400, 413, 415, 422}
    assert {(3, 32, 32), 400} <= set(found)
