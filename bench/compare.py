"""TPC-H through Wasmhouse's HTTP API beside DataFusion, DuckDB and Polars, on the same Parquet files of the same machine.

    bench/run.sh [--scale 1] [--rounds 3] [--save]

Every system takes its turn at a query before the next query comes, in an order that changes from round to round. The first
round warms caches and is not counted; of the others the median is. For each query: wall time at the caller, CPU time of every
process that worked on it, and the most memory those processes held.
"""

import argparse
import datetime
import hashlib
import http.client
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]
QUERIES = range(1, 23)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ARROW = "application/vnd.apache.arrow.stream"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server", required=True, help="the wasmhouse binary")
    arguments.add_argument("--scale", default="1", help="TPC-H scale factor")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds that count")
    arguments.add_argument("--data", help="data folder of the server [default: data/bench-sf<scale>]")
    arguments.add_argument("--seed", type=int, default=8841, help="seed of the order in which systems take turns")
    arguments.add_argument("--save", action="store_true", help="write the result into bench/results, too")
    options = arguments.parse_args()

    server = Path(options.server).resolve()
    data = Path(options.data or HERE.parent / "data" / f"bench-sf{options.scale}").resolve()
    load(server, data, options.scale)

    wasmhouse = Wasmhouse(server, data)
    systems = [wasmhouse]
    try:
        files = wasmhouse.files()
        systems += [Library(name, files) for name in ["datafusion", "duckdb", "polars"]]
        measured = measure(systems, options)
        small = small_things(wasmhouse)
    finally:
        for system in systems:
            system.close()

    report = "\n".join(lines(options, systems, measured, small))
    print(report)
    if options.save:
        results = HERE / "results"
        results.mkdir(exist_ok=True)
        path = results / f"{datetime.date.today().isoformat()}-tpch-sf{options.scale}.md"
        path.write_text(report + "\n")
        print(f"\nwritten to {path.relative_to(HERE.parent)}", file=sys.stderr)


def load(server, data, scale):
    """TPC-H by the product's own demo, which loads what is not there."""
    print(f"TPC-H at scale factor {scale} in {data}", file=sys.stderr)
    data.mkdir(parents=True, exist_ok=True)
    command = [server, "demo", "--scale", scale, "--data", data, "--listen", "127.0.0.1:0"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=HERE.parent)


def query_text(number, scale):
    text = (HERE / "tpch" / f"q{number:02}.sql").read_text()
    return text.replace("{FRACTION}", format(0.0001 / float(scale), ".12f")).strip().rstrip(";")


class Wasmhouse:
    """The server, its workers, and one caller with one connection."""

    name = "wasmhouse"

    def __init__(self, server, data):
        self.server, self.data = server, data
        self.key = tomllib.loads((data / "demo.toml").read_text())["key"]
        version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
        self.version = version.stdout.strip().split()[-1]
        self.start()

    def start(self):
        """Starts it, and says how long that took and how long until the first answer."""
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [self.server, "serve", "--listen", "127.0.0.1:0", "--exit-with-parent", "--data", self.data],
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
        ready = time.perf_counter() - started
        self.connection = http.client.HTTPConnection(self.address)
        self.post("select 1")
        return ready, time.perf_counter() - started

    def post(self, sql):
        headers = {"authorization": f"Bearer {self.key}", "accept": ARROW, "content-type": "text/plain"}
        self.connection.request("POST", "/v1/sql?dataset=tpch&timeout_ms=600000", body=sql.encode(), headers=headers)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {body.decode(errors='replace')[:300]}")
        rows = response.getheader("wasmhouse-rows")
        return int(rows) if rows else None

    def ping(self):
        self.connection.request("GET", "/healthz")
        self.connection.getresponse().read()

    def get(self, path):
        self.connection.request("GET", path, headers={"authorization": f"Bearer {self.key}"})
        return json.loads(self.connection.getresponse().read())

    def files(self):
        """The Parquet files of each table's newest version, from its own log."""
        found = {}
        for table in TABLES:
            location = Path(self.get(f"/v1/datasets/tpch/tables/{table}")["location"])
            names = set()
            for entry in sorted((location / "_delta_log").glob("*.json")):
                for line in entry.read_text().splitlines():
                    action = json.loads(line)
                    if "add" in action:
                        names.add(action["add"]["path"])
                    if "remove" in action:
                        names.discard(action["remove"]["path"])
            found[table] = [str(location / name) for name in sorted(names)]
        return found

    def run(self, sql):
        forget_peaks(self.processes())
        before = cpu_seconds(self.processes())
        started = time.perf_counter()
        rows = self.post(sql)
        wall = time.perf_counter() - started
        processes = self.processes()
        return Turn(wall, cpu_seconds(processes) - before, peak_bytes(processes), rows)

    def processes(self):
        return [self.process.pid, *children(self.process.pid)]

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait(timeout=60)

    def close(self):
        self.stop()


class Library:
    """Another system, in a process of its own that answers one query at a time."""

    def __init__(self, name, files):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="wasmhouse-bench-")
        tables = {}
        for table, paths in files.items():
            folder = Path(self.folder.name) / table
            folder.mkdir()
            for index, path in enumerate(paths):
                (folder / f"{index}.parquet").symlink_to(path)
            tables[table] = str(folder)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--library", name, json.dumps(tables)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = json.loads(self.process.stdout.readline())["version"]

    def run(self, sql):
        forget_peaks([self.process.pid])
        before = cpu_seconds([self.process.pid])
        started = time.perf_counter()
        print(json.dumps(sql), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        wall = time.perf_counter() - started
        if "error" in answer:
            return Turn(error=answer["error"])
        return Turn(wall, cpu_seconds([self.process.pid]) - before, peak_bytes([self.process.pid]), answer["rows"])

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.folder.cleanup()


class Turn:
    """What one run of one query took."""

    def __init__(self, wall=None, cpu=None, peak=None, rows=None, error=None):
        self.wall, self.cpu, self.peak, self.rows, self.error = wall, cpu, peak, rows, error


def serve_library(name, tables):
    """The other side of `Library`: SQL in, the number of rows out, a line each."""
    run, version = {"datafusion": with_datafusion, "duckdb": with_duckdb, "polars": with_polars}[name](tables)
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        try:
            answer = {"rows": run(json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


def with_datafusion(tables):
    import datafusion

    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(os.cpu_count()))
    for table, folder in tables.items():
        context.register_parquet(table, folder)
    return (lambda sql: sum(batch.num_rows for batch in context.sql(sql).collect())), datafusion.__version__


def with_duckdb(tables):
    import duckdb

    connection = duckdb.connect(config={"threads": os.cpu_count()})
    for table, folder in tables.items():
        connection.execute(f"create view {table} as select * from read_parquet('{folder}/*.parquet')")
    return (lambda sql: arrow_rows(connection.execute(sql))), duckdb.__version__


def arrow_rows(result):
    """Rows as Arrow, as the others give them."""
    table = result.to_arrow_table() if hasattr(result, "to_arrow_table") else result.fetch_arrow_table()
    return table.num_rows


def with_polars(tables):
    import polars

    context = polars.SQLContext({table: polars.scan_parquet(f"{folder}/*.parquet") for table, folder in tables.items()})
    return (lambda sql: context.execute(sql).collect().height), polars.__version__


def children(parent):
    """The children of a process and theirs."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found, wanted = [], {parent}
    while wanted:
        wanted = {pid for pid, above in parents.items() if above in wanted}
        found += wanted
    return found


def cpu_seconds(pids):
    """CPU time of these processes, and of their children that have ended."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(fields[index]) for index in (11, 12, 13, 14))
    return total / TICKS_PER_SECOND


def forget_peaks(pids):
    for pid in pids:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            pass


def peak_bytes(pids):
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return total


def measure(systems, options):
    """Turns by system and query."""
    order = random.Random(options.seed)
    turns = {system.name: {number: [] for number in QUERIES} for system in systems}
    for turn in range(options.rounds + 1):
        for number in QUERIES:
            sql = query_text(number, options.scale)
            for system in order.sample(systems, len(systems)):
                result = system.run(sql)
                if turn > 0:
                    turns[system.name][number].append(result)
        print("warm" if turn == 0 else f"round {turn} of {options.rounds}", file=sys.stderr)
    return turns


def small_things(wasmhouse):
    """What a start and a `select 1` cost."""
    starts = []
    for _ in range(5):
        wasmhouse.stop()
        starts.append(wasmhouse.start())
    # What a request costs that asks nothing, and what this machine can do today: the same in every version.
    bare, _ = cost(wasmhouse, wasmhouse.ping)
    cpu, wall = cost(wasmhouse, lambda: wasmhouse.post("select 1"))
    return {
        "ready after start": statistics.median(ready for ready, _ in starts),
        "first answer after start": statistics.median(answer for _, answer in starts),
        "select 1, CPU of all processes": cpu,
        "select 1, wall at the caller": wall,
        "GET /healthz, CPU of all processes": bare,
        "SHA-256 of 16 MiB in Python, CPU": hashing(),
    }


def cost(wasmhouse, request, count=2000):
    """CPU of all processes and wall time of one request, of many in a row."""
    for _ in range(200):
        request()
    before, started = cpu_seconds(wasmhouse.processes()), time.perf_counter()
    for _ in range(count):
        request()
    wall = (time.perf_counter() - started) / count
    return (cpu_seconds(wasmhouse.processes()) - before) / count, wall


def hashing():
    data = bytes(16 << 20)
    times = []
    for _ in range(9):
        before = time.process_time()
        hashlib.sha256(data).digest()
        times.append(time.process_time() - before)
    return statistics.median(times)


def median(turns, field):
    values = [getattr(turn, field) for turn in turns if turn.error is None]
    return statistics.median(values) if values else None


def lines(options, systems, measured, small):
    names = [system.name for system in systems]
    versions = ", ".join(f"{system.name} {system.version}" for system in systems)
    cores, memory = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"# TPC-H, scale factor {options.scale}, {datetime.date.today().isoformat()}"
    yield ""
    yield f"{versions}; {platform.machine()}, {cores} cores, {memory:.0f} GiB; median of {options.rounds} rounds, systems in turn."
    for field, title, unit, factor in [("wall", "Wall", "ms", 1e3), ("cpu", "CPU", "ms", 1e3), ("peak", "Peak memory", "MiB", 2**-20)]:
        yield ""
        yield f"## {title}, {unit}"
        yield ""
        yield "| query | " + " | ".join(names) + " | wasmhouse / datafusion |"
        yield "|---|" + "--:|" * (len(names) + 1)
        totals, ratios = dict.fromkeys(names, 0.0), {name: [] for name in names}
        for number in QUERIES:
            values = {name: median(measured[name][number], field) for name in names}
            for name, value in values.items():
                totals[name] += value or 0.0
                if value and values["wasmhouse"]:
                    ratios[name].append(values["wasmhouse"] / value)
            cells = [shown(value, factor) for value in values.values()]
            yield f"| Q{number} | " + " | ".join(cells) + f" | {ratio(values['wasmhouse'], values['datafusion'])} |"
        if field != "peak":
            cells = [shown(total, factor) for total in totals.values()]
            yield "| sum | " + " | ".join(cells) + f" | {ratio(totals['wasmhouse'], totals['datafusion'])} |"
        yield ""
        yield "Wasmhouse to each, geometric mean: " + ", ".join(
            f"{name} {geometric_mean(ratios[name]):.2f}x over {len(ratios[name])} queries" for name in names[1:] if ratios[name]
        )
    yield ""
    yield "## Small things"
    yield ""
    for what, seconds in small.items():
        yield f"- {what}: {seconds * 1e3:.2f} ms"
    yield from troubles(names, measured)


def troubles(names, measured):
    """Queries that a system could not run, and those whose rows are not as many as DataFusion's."""
    found = []
    for name in names:
        for number, turns in measured[name].items():
            errors = [turn.error for turn in turns if turn.error]
            if errors:
                found.append(f"- {name} cannot run Q{number}: {errors[0].splitlines()[0]}")
            elif name != "datafusion":
                rows, known = turns[0].rows, measured["datafusion"][number][0].rows
                if rows is not None and known is not None and rows != known:
                    found.append(f"- {name} gives {rows} rows for Q{number}, DataFusion {known}")
    if found:
        yield ""
        yield "## Not the same"
        yield ""
        yield from found


def shown(value, factor):
    return "n/a" if value is None else f"{value * factor:,.0f}"


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}x" if ours and theirs else "n/a"


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--library"]:
        serve_library(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main()
