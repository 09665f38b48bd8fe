"""Whether one project can starve another: the latency of a small query each second, alone and beside 200 queued heavy ones.

    python3 bench/fairness.py --server target/release/wasmhouse [--seconds 60] [--heavy 200]

The house has a worker for each core, each of one thread. "heavy" sends its queries at once and sends another for each that
ends; "small" asks one small question a second, from its own connection, and how long that takes is what is told.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

SETTINGS = f"""
[workers]
max = {max(2, os.cpu_count())}
threads = 1
[queries]
queue_max = 1000
queue_max_per_project = 1000
queue_timeout_ms = 3600000
timeout_ms = 3600000
timeout_max_ms = 3600000
"""

HEAVY = "select count(*) from generate_series(1, 40000) a, generate_series(1, 20000) b where a.value < b.value"
SMALL = "select k, count(*) as n from shop.sales where v > 500 group by k order by k"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server", required=True, help="the wasmhouse binary")
    arguments.add_argument("--seconds", type=int, default=60, help="how long each part takes, and how many small queries it has")
    arguments.add_argument("--heavy", type=int, default=200, help="heavy queries that wait")
    options = arguments.parse_args()
    server = Path(options.server).resolve()

    with tempfile.TemporaryDirectory(prefix="wasmhouse-fairness-") as folder:
        settings = Path(folder) / "wasmhouse.toml"
        settings.write_text(SETTINGS)
        process = subprocess.Popen(
            [server, "serve", "--listen", "127.0.0.1:0", "--exit-with-parent", "--data", folder, "--config", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            address = next(line.split("listening on ")[1] for line in process.stdout if "listening on " in line)
            address = urlsplit(address.strip()).netloc
            heavy, small = (Caller(address, project(server, folder, name)) for name in ("heavy", "small"))
            small.ask("create schema shop")
            small.ask("create table shop.sales as select value as v, value % 10 as k from generate_series(1, 100000)")

            alone = [small_query(small) for _ in range(options.seconds)]
            beside, done = beside_heavy(heavy, small, options)
        finally:
            process.terminate()
            process.wait(timeout=60)

    print(f"{options.heavy} heavy queries of another project waiting, {done} of them done in {options.seconds} s:")
    print(f"  alone   p50 {p(alone, 50):6.1f} ms   p95 {p(alone, 95):6.1f} ms   most {max(alone):6.1f} ms")
    print(f"  beside  p50 {p(beside, 50):6.1f} ms   p95 {p(beside, 95):6.1f} ms   most {max(beside):6.1f} ms")
    print(f"  p95 beside / alone: {p(beside, 95) / p(alone, 95):.2f}")


def project(server, folder, name):
    """The key of a new project."""
    made = subprocess.run([server, "admin", "create-project", name, "--data", folder], capture_output=True, text=True, check=True)
    return next(word.strip(".,'\"") for word in made.stdout.split() if word.strip(".,'\"").startswith("wh_"))


def beside_heavy(heavy, small, options):
    over = threading.Event()
    done = []

    def keep_busy():
        caller = Caller(heavy.address, heavy.key)
        while not over.is_set():
            query = caller.post("/v1/queries", {"sql": HEAVY, "wait_ms": 0})
            while query["state"] in ("pending", "running") and not over.is_set():
                query = caller.get(f"/v1/queries/{query['id']}?wait_ms=5000")
            if query["state"] == "done":
                done.append(query["id"])

    threads = [threading.Thread(target=keep_busy, daemon=True) for _ in range(options.heavy)]
    for thread in threads:
        thread.start()
    # All of them wait before the first small one comes.
    while len(heavy.get("/v1/queries?state=pending&limit=1000")["queries"]) < options.heavy * 9 // 10:
        time.sleep(0.2)
    before = len(done)
    taken = [small_query(small) for _ in range(options.seconds)]
    over.set()
    return taken, len(done) - before


def small_query(caller):
    began = time.perf_counter()
    caller.ask(SMALL)
    took = time.perf_counter() - began
    time.sleep(max(0.0, 1.0 - took))
    return took * 1000


def p(values, percent):
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Caller:
    def __init__(self, address, key):
        self.address, self.key = address, key
        self.connection = http.client.HTTPConnection(address)

    def ask(self, sql):
        return self.post("/v1/sql", {"sql": sql})

    def post(self, path, body):
        return self.send("POST", path, json.dumps(body))

    def get(self, path):
        return self.send("GET", path)

    def send(self, method, path, body=None):
        headers = {
            "authorization": f"Bearer {self.key}",
            "content-type": "application/json",
            "accept": "application/json",
        }
        self.connection.request(method, path, body=body, headers=headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= 400:
            raise RuntimeError(f"{response.status}: {answer}")
        return answer


if __name__ == "__main__":
    main()
