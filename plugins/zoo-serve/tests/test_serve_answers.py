"""What a good request gets, from every route."""

import asyncio
import threading

import pytest
from serving import BLUE, CLASSES, GREEN, RED, picture, predictor, serving, together, until


def test_an_image_gets_its_likeliest_classes_first(server):
    answer = server.post(picture(BLUE))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert [found["name"] for found in answer.json()["classes"]] == ["blue", "red", "green"]
    assert answer.json()["model"] == "colours"
    (best, *_), expected = answer.json()["classes"], dict(predictor()(picture(BLUE), top=3).classes)
    assert best["probability"] == pytest.approx(expected["blue"], abs=1e-6)
    assert sum(found["probability"] for found in answer.json()["classes"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_top_says_how_many(server, top, count):
    assert len(server.post(picture(), params={"top": top}).json()["classes"]) == count


@pytest.mark.parametrize("type", ["image/png", "IMAGE/PNG", "image/anything; q=1", "application/octet-stream"])
def test_the_body_may_be_the_image(server, type):
    assert server.post(picture(GREEN), type).json()["classes"][0]["name"] == "green"


def test_the_type_may_be_left_out(server):
    answer = server.client.post("/predict", content=picture(GREEN))
    assert "content-type" not in answer.request.headers
    assert answer.json()["classes"][0]["name"] == "green"


@pytest.mark.parametrize("file", [("a.png", picture(GREEN), "image/png"), ("", picture(GREEN)), (None, picture(GREEN))])
def test_the_image_may_be_a_forms_field(server, file):
    answer = server.client.post("/predict", files={"image": file}, data={"other": "x"})
    assert answer.json()["classes"][0]["name"] == "green"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_formats(server, format):
    assert server.post(picture(GREEN, format=format)).json()["classes"][0]["name"] == "green"


def test_a_chunked_body_is_an_image_too(server):
    content = picture(GREEN)
    answer = server.post(iter([content[:20], content[20:]]))
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.json()["classes"][0]["name"] == "green"


def test_one_connection_serves_many_requests(server):
    assert all(server.is_well() for _ in range(5))


def test_health_and_model(server):
    assert server.client.get("/health").json() == {"model": "colours", "state": "ready", "classes": 3}
    assert server.client.get("/model").json() == {
        "model": "colours",
        "classes": list(CLASSES),
        "input": {
            "size": [32, 32],
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
        },
    }


def test_metrics_count_by_path_and_status():
    with serving() as running:
        running.post(picture(RED))
        running.post(b"x")
        running.client.get("/no/such/path")
        assert running.client.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
        assert running.figure('zoo_requests_total{path="/predict",status="200"}') == 1
        assert running.figure('zoo_requests_total{path="/predict",status="415"}') == 1
        assert running.figure('zoo_requests_total{path="other",status="404"}') == 1
        assert running.figure('zoo_request_seconds_count{path="/predict"}') == 2
        assert running.figure("zoo_batch_size_count") == 1
        assert running.figure("zoo_queue_length") == 0


def test_until_it_is_loaded_it_says_so():
    go_on = threading.Event()

    def load():
        go_on.wait(20)
        return predictor()

    with serving(load, at_once=True) as running:
        found = [running.client.get("/health"), running.client.get("/model"), running.post(picture())]
        go_on.set()
        assert until(running.is_well)
    assert [answer.status_code for answer in found] == [503] * 3
    assert [answer.headers["retry-after"] for answer in found] == ["1"] * 3
    assert found[0].json() == {"model": "colours", "state": "loading"}
    assert found[2].json() == {"error": "the model is loading", "hint": "try again"}


def test_a_model_that_cannot_answer_ends_the_server():
    def broken(images):
        raise RuntimeError("no")

    with serving(lambda: predictor(broken)) as running:
        assert until(lambda: running.service.state != "ready")
    assert str(running.service.failure) == "no"


def test_concurrent_clients_share_batches_and_get_their_own_answers():
    with serving(wait=0.2, batch=16) as running:
        colours = [RED, GREEN, BLUE] * 8
        answers = asyncio.run(together(running.url, [picture(colour) for colour in colours]))
        names = [answer.json()["classes"][0]["name"] for answer in answers]
        assert names == ["red", "green", "blue"] * 8
        batches, images = running.figure("zoo_batch_size_count"), running.figure("zoo_batch_size_sum")
        assert (images, batches < 8) == (24, True)
        assert running.figure('zoo_batch_size_bucket{le="16.0"}') == batches  # never more than --batch
        alone = running.post(picture(BLUE), params={"top": 3}).json()["classes"]
        for one, other in zip(answers[2].json()["classes"], alone, strict=True):
            assert one == {"name": other["name"], "probability": pytest.approx(other["probability"], abs=1e-6)}
