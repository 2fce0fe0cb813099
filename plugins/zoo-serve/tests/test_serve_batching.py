"""Batches: what goes together, what fails alone, what is refused, and what nobody waits for any more."""

import asyncio
import logging
import signal
import socket
import threading
import time

import httpx
import pytest
import torch
from serving import BLUE, GREEN, RED, colours, picture, predictor, serving, together, until

from zoo_serve.batching import Batcher
from zoo_serve.figures import Figures
from zoo_serve.refusal import Refused
from zoo_serve.settings import Settings

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
IMAGE = torch.zeros(3, 32, 32, dtype=torch.uint8)


class Gate:
    """A network that computes only while the gate is open, and keeps the size of every batch."""

    def __init__(self, network=colours):
        self.open, self.busy, self.sizes, self._network = threading.Event(), threading.Event(), [], network

    def __call__(self, images):
        self.sizes.append(len(images))
        self.busy.set()
        if not self.open.wait(20):
            raise TimeoutError
        return self._network(images)


def is_open(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def load(gate):
    """The gate is open for the answer that tries the model."""

    def loaded():
        gate.open.set()
        return predictor(gate)

    return loaded


def closed(gate):
    gate.open.clear()
    gate.busy.clear()
    gate.sizes.clear()


def in_background(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_what_gets_ready_while_the_network_works_goes_together():
    gate = Gate()
    with serving(load(gate), wait=0, batch=4) as running:
        closed(gate)
        answers = []
        threads = in_background(lambda: answers.append(running.is_well()))
        assert gate.busy.wait(10)
        threads += in_background(lambda: answers.extend(asyncio.run(together(running.url, [picture(RED)] * 6))))
        assert until(lambda: running.service.loaded().batcher._ready.qsize() == 6)
        gate.open.set()
        for thread in threads:
            thread.join()
    assert gate.sizes == [1, 4, 2]
    assert answers[0] is True
    assert [answer.status_code for answer in answers[1:]] == [200] * 6


def test_a_full_queue_refuses_and_recovers():
    gate = Gate()
    with serving(load(gate), queue=3, wait=0) as running:
        closed(gate)
        answers = []
        threads = in_background(lambda: answers.extend(asyncio.run(together(running.url, [picture(RED)] * 3))))
        assert until(lambda: running.service.loaded().batcher.waiting == 3)
        refused = running.post(picture())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json() == {"error": "3 images are waiting already", "hint": "try again"}
        assert running.figure("zoo_queue_length") == 3
        assert running.client.get("/health").status_code == 200
        gate.open.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 3
        assert running.is_well()
        assert running.figure("zoo_queue_length") == 0


def test_an_answer_that_takes_too_long_is_given_up():
    gate = Gate()
    with serving(load(gate), timeout=0.5) as running:
        closed(gate)
        late = running.post(picture())
        assert (late.status_code, late.json()["error"]) == (504, "there was no answer within 0.5 s")
        gate.open.set()
        assert until(running.is_well)


def picky(images):
    """Fails for a batch with a black image, and gives NaN for a white one."""
    means = images.mean(dim=(1, 2, 3))
    if bool((means == 0).any()) and len(images) > 0:
        raise RuntimeError("black")
    return torch.where((means == 1)[:, None], torch.nan, colours(images))


def test_a_request_that_fails_fails_alone(caplog):
    once = []

    def network(images):
        if not once:  # the black image that tries the model
            once.append(1)
            return colours(images)
        return picky(images)

    with serving(lambda: predictor(network), wait=3, batch=5) as running, caplog.at_level(logging.ERROR):
        contents = [picture(colour) for colour in (RED, BLACK, GREEN, WHITE, BLUE)] + [b"none", picture()[:60]]
        answers = asyncio.run(together(running.url, contents))
        assert [answer.status_code for answer in answers] == [200, 500, 200, 500, 200, 415, 422]
        assert [answers[i].json()["classes"][0]["name"] for i in (0, 2, 4)] == ["red", "green", "blue"]
        assert answers[1].json() == {
            "error": "the model failed on this image",
            "hint": "the server's log has the reason",
        }
        assert running.figure("zoo_batch_size_count") == 1
        assert running.is_well()
    assert "RuntimeError: black" in caplog.text


def test_clients_that_leave_cost_the_network_nothing():
    gate = Gate()
    with serving(load(gate), wait=0) as running:
        closed(gate)
        answers = []
        threads = in_background(lambda: answers.append(running.is_well()))
        assert gate.busy.wait(10)
        content = picture()
        head = f"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        leaving = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(5)]
        for connection in leaving:
            connection.sendall(head + content)
        assert until(lambda: running.service.loaded().batcher.waiting == 6)
        for connection in leaving:
            connection.close()
        assert until(lambda: running.figure('zoo_requests_total{path="/predict",status="499"}') == 5)
        gate.open.set()
        threads[0].join()
        assert running.is_well()
        assert until(lambda: running.service.loaded().batcher.waiting == 0)
    assert (answers, gate.sizes) == ([True], [1, 1])


def test_what_is_under_way_is_finished_when_the_server_stops():
    gate = Gate()
    with serving(load(gate)) as running:
        closed(gate)
        answers = []
        threads = in_background(lambda: answers.append(running.is_well()))
        assert gate.busy.wait(10)
        running.server.handle_exit(signal.SIGTERM, None)
        assert running.service.state == "stopping"
        assert until(lambda: not is_open(running.port))
        gate.open.set()
        threads[0].join()
    assert answers == [True]


def test_decoding_leaves_the_loop_free(monkeypatch):
    slow, go_on = predictor(), threading.Event()
    decode = slow.decode

    def wait_and_decode(data):
        go_on.wait(20)
        return decode(data)

    with serving(lambda: slow) as running:
        monkeypatch.setattr(slow, "decode", wait_and_decode)
        threads = in_background(running.is_well, running.is_well)
        assert until(lambda: running.service.loaded().batcher.waiting == 2)
        assert running.client.get("/health").status_code == 200
        go_on.set()
        for thread in threads:
            thread.join()


def in_a_loop(work, model=None, **settings):
    """Run `work(batcher)` between the batcher's start and stop."""

    async def whole():
        batcher = Batcher(model or predictor(), Settings(**settings), Figures())
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await batcher.stop()

    return asyncio.run(whole())


def test_a_lone_image_waits_no_longer_than_told():
    async def work(batcher):
        started = time.monotonic()
        await batcher.submit(lambda: IMAGE)
        return time.monotonic() - started

    assert 0.2 <= in_a_loop(work, wait=0.2) < 10


def test_a_full_batch_does_not_wait():
    async def work(batcher):
        started = time.monotonic()
        await asyncio.gather(*(batcher.submit(lambda: IMAGE) for _ in range(4)))
        return time.monotonic() - started

    assert in_a_loop(work, wait=30, batch=4) < 10


def test_whatever_decoding_raises_the_answer_raises():
    async def work(batcher):
        with pytest.raises(ZeroDivisionError):
            await batcher.submit(lambda: 1 / 0)
        return batcher.waiting

    assert in_a_loop(work) == 0


def test_an_answer_that_is_cancelled_is_not_computed_and_frees_its_place():
    async def work(batcher):
        hold = threading.Event()
        held = [batcher.submit(lambda: hold.wait(20) and IMAGE) for _ in range(2)]
        await asyncio.sleep(0.05)
        last = batcher.submit(lambda: IMAGE)
        last.cancel()
        await asyncio.sleep(0.05)
        before = batcher.waiting
        held[0].cancel()
        hold.set()
        return before, len(await held[1]), batcher

    before, count, batcher = in_a_loop(work, decoders=2)
    assert (before, count, batcher.waiting) == (2, 3, 0)


def test_decoded_images_that_wait_are_bounded():
    async def work(batcher):
        decoded = []
        answers = [batcher.submit(lambda: decoded.append(1) or IMAGE) for _ in range(20)]
        await asyncio.sleep(0.1)
        before = len(decoded)
        gate.open.set()
        await asyncio.gather(*answers)
        return before, len(decoded)

    gate = Gate()
    before, after = in_a_loop(work, predictor(gate), max_decoded=2 * IMAGE.nbytes, decoders=2, batch=1, wait=0)
    assert (before <= 4, after) == (True, 20)


def test_stopping_waits_for_no_room():
    async def work(batcher):
        return [batcher.submit(lambda: IMAGE) for _ in range(20)]

    started = time.perf_counter()
    in_a_loop(work, max_decoded=1, decoders=2, wait=30)
    assert time.perf_counter() - started < 25


def test_a_wrong_number_of_logits_is_a_fault():
    async def work(batcher):
        await batcher.submit(lambda: IMAGE)

    with pytest.raises(RuntimeError, match="not finite, or not one number for each class"):
        in_a_loop(work, predictor(lambda images: torch.zeros(len(images), 7)))


def test_a_batcher_refuses_what_does_not_fit():
    async def work(batcher):
        batcher.submit(lambda: IMAGE)
        with pytest.raises(Refused):
            batcher.submit(lambda: IMAGE)

    in_a_loop(work, queue=1, wait=30)


@pytest.mark.slow
def test_hundreds_of_requests_good_and_bad_leave_nothing_behind():
    with serving(queue=64) as running:
        contents = [picture(RED), picture(GREEN), b"none", picture(BLUE)[:50]] * 5

        async def rounds():
            async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
                found = []
                for _ in range(20):
                    posts = [client.post("/predict", content=content) for content in contents]
                    found += await asyncio.gather(*posts)
                return found

        answers = asyncio.run(rounds())
        assert {status: sum(a.status_code == status for a in answers) for status in (200, 415, 422)} == {
            200: 200,
            415: 100,
            422: 100,
        }
        names = [answer.json()["classes"][0]["name"] for answer in answers if answer.status_code == 200]
        assert names == ["red", "green"] * 100
        assert (running.service.uploads.held, running.service.loaded().batcher.waiting) == (0, 0)
        assert running.is_well()
