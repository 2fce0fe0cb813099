"""Requests per second of a server, with 1 and with 16 clients at once: python plugins/zoo-serve/benchmark.py.

The server is a process of its own, the clients are threads of this one, each with one connection kept open. The model
has random weights: its speed is that of trained ones. The ceiling is the same images decoded and put through the same
network without a server, one after another and 16 at a time. Processor time (Linux)
hardly depends on what else runs.
"""

import http.client
import os
import statistics
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

from PIL import Image

ARCH = "mobilenetv3_small_100"
SIZE = (500, 375)
SECONDS = 8.0
RUNS = 3
CLIENTS = (1, 16)


def load():
    """Return a predictor with the architecture of timm, 224 px, 1,000 classes."""
    import timm
    import zoo

    model = timm.create_model(ARCH, pretrained=False).eval()
    return zoo.Predictor(model, zoo.InputSpec(), [f"class {number}" for number in range(1000)])


def serve():
    """Serve until this process is told to end."""
    import zoo
    from zoo.cli.main import main as command

    zoo.load = lambda path, **options: load()
    sys.argv = ["zoo", "serve", ARCH, "--port", "0"]
    command()


def photo():
    """Return a JPEG of noise over a gradient."""
    image = Image.blend(Image.linear_gradient("L").resize(SIZE), Image.effect_noise(SIZE, 60), 0.3).convert("RGB")
    file = BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def ask(port, content, end, found):
    """Post the content again and again until `end`, and keep the seconds of every answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while (started := time.perf_counter()) < end:
        connection.request("POST", "/predict", content, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the server answered {answer.status}")
        found.append(time.perf_counter() - started)
    connection.close()


def measure(port, content, clients):
    """Return requests/s, and the median and 95th percentile of the latency in ms."""
    found = []
    end = time.perf_counter() + SECONDS
    threads = [threading.Thread(target=ask, args=(port, content, end, found)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ranked = sorted(found)
    return len(found) / SECONDS, 1000 * statistics.median(ranked), 1000 * ranked[int(0.95 * len(ranked))]


def processor(pid):
    """Return the seconds of processor time that a process has taken."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def ceiling(content, batch):
    """Return images/s and ms of processor time an image without a server: decode `batch` images, then one pass."""
    predictor = load()
    predictor.logits([predictor.decode(content)])
    count, end, before = 0, time.perf_counter() + SECONDS, time.process_time()
    while time.perf_counter() < end:
        predictor.logits([predictor.decode(content) for _ in range(batch)])
        count += batch
    return count / SECONDS, 1000 * (time.process_time() - before) / count


def main():
    """Print the figures."""
    content = photo()
    print(f"{ARCH}, JPEG of {SIZE[0]} × {SIZE[1]} px, {len(content) / 1000:.0f} kB; {RUNS} runs of {SECONDS:g} s")
    for batch in CLIENTS:
        rate, cost = ceiling(content, batch)
        print(f"no server, {batch} at a time: {rate:.1f} images/s, {cost:.1f} ms of processor time each")
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().split()[3].rstrip("/").rpartition(":")[2])
        measure(port, content, 2)
        for clients in CLIENTS:
            for _ in range(RUNS):
                before = processor(server.pid)
                rate, middle, late = measure(port, content, clients)
                cost = 1000 * (processor(server.pid) - before) / (rate * SECONDS)
                latency = f"median {middle:.1f} ms, 95 % within {late:.1f} ms"
                print(f"{clients} clients: {rate:.1f} requests/s, {latency}, {cost:.1f} ms of processor time each")
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
