"""What further workers bring and cost: TPC-H with workers of one thread each, on this machine.

    bench/run.sh --scaling [--scale 1] [--workers 1,2] [--rounds 3] [--save]

Every number of workers gets a server of its own, on the same tables; they take turns, all queries at a time. The first round
warms caches and is not counted; of the others the median is. For each query: wall time from its record to its end, CPU time of
all its workers, and the bytes that these sent each other.
"""

import argparse
import datetime
import http.client
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from compare import HERE, QUERIES, load, query_text

NAMES = ("wall", "cpu", "shuffled", "processed")

# Small enough that what it takes is what having workers takes.
SMALL = "select s_nationkey, count(*) from supplier group by s_nationkey"
SMALL_TIMES = 20

SETTINGS = """
[workers]
max = {most}
max_per_project = {most}
threads = 1
[queries]
timeout_ms = 3600000
timeout_max_ms = 3600000
workers_max = {workers}
mib_per_worker = 0
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server", required=True, help="the wasmhouse binary")
    arguments.add_argument("--scale", default="1", help="TPC-H scale factor")
    arguments.add_argument("--workers", default="1,2", help="numbers of workers; the first is what others are compared with")
    arguments.add_argument("--crews", default="1,2,4,8,16", help="numbers of workers that the small query is asked of")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds that count")
    arguments.add_argument("--data", help="data folder of the server [default: data/bench-sf<scale>]")
    arguments.add_argument("--save", action="store_true", help="write the result into bench/results, too")
    options = arguments.parse_args()

    server = Path(options.server).resolve()
    data = Path(options.data or HERE.parent / "data" / f"bench-sf{options.scale}").resolve()
    load(server, data, options.scale)
    numbers = [int(number) for number in options.workers.split(",")]
    measured = {number: {query: [] for query in QUERIES} for number in numbers}
    crews = [int(number) for number in options.crews.split(",")]
    small = {number: [] for number in crews}
    for round_number in range(options.rounds + 1):
        for number in numbers:
            with House(server, data, number) as house:
                for query in QUERIES:
                    usage = house.run(query_text(query, options.scale))
                    print(f"round {round_number}, {number} workers, Q{query}: {usage}", file=sys.stderr)
                    if round_number > 0:
                        measured[number][query].append(usage)
        for number in crews:
            with House(server, data, number) as house:
                house.run(SMALL)
                small[number] += [house.run(SMALL) for _ in range(SMALL_TIMES)]

    report = "\n".join(lines(options, numbers, measured, small))
    print(report)
    if options.save:
        path = HERE / "results" / f"{datetime.date.today().isoformat()}-scaling-sf{options.scale}.md"
        path.write_text(report + "\n")
        print(f"\nwritten to {path.relative_to(HERE.parent)}", file=sys.stderr)


class House:
    """A server whose every query has as many workers as it may."""

    def __init__(self, server, data, workers):
        self.key = tomllib.loads((data / "demo.toml").read_text())["key"]
        self.settings = tempfile.NamedTemporaryFile("w", suffix=".toml")
        self.settings.write(SETTINGS.format(workers=workers, most=workers + 1))
        self.settings.flush()
        self.process = subprocess.Popen(
            [server, "serve", "--listen", "127.0.0.1:0", "--exit-with-parent", "--data", data, "--config", self.settings.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for line in self.process.stdout:
            if "listening on " in line:
                self.address = urlsplit(line.split("listening on ")[1].strip()).netloc
                break
        else:
            raise RuntimeError("the server ended before it listened")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.settings.close()

    def run(self, sql):
        """Runs a query and gives its usage."""
        query = self.ask("POST", "/v1/queries", {"sql": sql, "dataset": "tpch", "wait_ms": 60_000})
        while query["state"] in ("pending", "running", "committing"):
            query = self.ask("GET", f"/v1/queries/{query['id']}?wait_ms=60000")
        if query["state"] != "done":
            raise RuntimeError(f"{query['state']}: {query.get('error')}")
        created, ended = (datetime.datetime.fromisoformat(query[name]) for name in ("created_at", "ended_at"))
        usage = query["usage"]
        return {
            "wall": (ended - created).total_seconds(),
            "cpu": usage["cpu_ms"] / 1000,
            "shuffled": usage["bytes_shuffled"],
            "processed": usage["bytes_processed"],
        }

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address)
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status >= 400:
            raise RuntimeError(f"{response.status}: {answer}")
        return answer


def lines(options, numbers, measured, small):
    first, *others = numbers
    median = {
        number: {
            query: {name: statistics.median(turn[name] for turn in turns) for name in NAMES}
            for query, turns in queries.items()
        }
        for number, queries in measured.items()
    }
    yield f"# TPC-H at scale factor {options.scale} with {' and '.join(map(str, numbers))} workers of one thread"
    yield ""
    yield (
        f"{datetime.date.today().isoformat()}, {platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"median of {options.rounds} rounds after one that is not counted."
    )
    yield ""
    head = [f"wall {first}", f"CPU {first}"]
    for number in others:
        head += [f"wall {number}", f"CPU {number}", f"speed-up {number}", f"CPU {number} / {first}", f"shuffled {number}"]
    yield "| Query | " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * len(head)
    for query in QUERIES:
        base = median[first][query]
        cells = [seconds(base["wall"]), seconds(base["cpu"])]
        for number in others:
            turn = median[number][query]
            cells += [
                seconds(turn["wall"]),
                seconds(turn["cpu"]),
                f"{base['wall'] / turn['wall']:.2f}",
                f"{turn['cpu'] / max(base['cpu'], 0.001):.2f}",
                f"{turn['shuffled'] / 2**20:.1f} MiB",
            ]
        yield f"| Q{query} | " + " | ".join(cells) + " |"
    yield ""
    for number in others:
        pairs = [(median[first][query], median[number][query]) for query in QUERIES]
        total = {name: [sum(pair[side][name] for pair in pairs) for side in (0, 1)] for name in NAMES}
        yield (
            f"With {number} workers instead of {first}: {total['wall'][0] / total['wall'][1]:.2f} times as fast in all "
            f"({mean(one['wall'] / other['wall'] for one, other in pairs):.2f} as a geometric mean of queries), "
            f"{total['cpu'][1] / total['cpu'][0]:.2f} times the CPU time "
            f"({mean(other['cpu'] / max(one['cpu'], 0.001) for one, other in pairs):.2f}), "
            f"{total['shuffled'][1] / 2**20:.0f} MiB sent from worker to worker."
        )
    yield ""
    yield f"What a crew costs by itself, with `{SMALL}`:"
    yield ""
    yield "| Workers | wall | CPU |"
    yield "|---:|---:|---:|"
    for number, turns in small.items():
        wall, cpu = (statistics.median(turn[name] for turn in turns) for name in ("wall", "cpu"))
        yield f"| {number} | {seconds(wall)} | {seconds(cpu)} |"
    yield ""
    alone = median[first].values()
    rate = sum(turn["processed"] for turn in alone) / sum(turn["cpu"] for turn in alone) / 1000
    yield f"A millisecond of CPU time of one worker is enough for {rate / 1000:.0f} KB of what a query processes."


def seconds(value):
    return f"{value * 1000:.0f} ms"


def mean(ratios):
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))


if __name__ == "__main__":
    main()
