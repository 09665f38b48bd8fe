"""Reads a Delta table as a stranger does and prints what is in it.

    python read.py duckdb|polars|deltalake LOCATION [OPTIONS AS JSON]

One JSON object: `version` where the reader tells it, and `rows` in the order of the column `id`, with values spelled as
Wasmhouse's HTTP contract spells them, so that both can be compared as text.
"""

import base64
import datetime
import decimal
import json
import math
import os
import sys
import tempfile


def duckdb_rows(location, options):
    import duckdb
    from duckdb_extensions import import_extension

    # The extension comes in a package; it is put into a folder that goes away again, and nothing is downloaded.
    with tempfile.TemporaryDirectory(prefix="wasmhouse-duckdb-") as folder:
        connection = duckdb.connect(config={"extension_directory": folder})
        connection.execute("set autoinstall_known_extensions = false")
        import_extension("delta", con=connection)
        connection.execute("load delta")
        result = connection.execute("select * from delta_scan(?) order by id", [location])
        names = [column[0] for column in result.description]
        return None, [dict(zip(names, row)) for row in result.fetchall()]


def polars_rows(location, options):
    import polars

    return None, polars.scan_delta(location, storage_options=options).sort("id").collect().to_dicts()


def deltalake_rows(location, options):
    import deltalake

    table = deltalake.DeltaTable(location, storage_options=options)
    return table.version(), table.to_pyarrow_table().sort_by("id").to_pylist()


READERS = {"duckdb": duckdb_rows, "polars": polars_rows, "deltalake": deltalake_rows}


def spelled(value):
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isnan(value):
                return "NaN"
            if math.isinf(value):
                return "Infinity" if value > 0 else "-Infinity"
            return value
        case decimal.Decimal():
            return format(value, "f")
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode()
        case datetime.datetime():
            if value.tzinfo is None:
                return instant(value)
            return instant(value.astimezone(datetime.timezone.utc).replace(tzinfo=None)) + "Z"
        case datetime.date():
            return value.isoformat()
        case dict():
            return {name: spelled(inner) for name, inner in value.items()}
        case list() | tuple():
            return [spelled(inner) for inner in value]
    raise TypeError(f"{type(value)} is not a type of the contract")


def instant(value):
    """Parts of a second in three or six digits, whichever is enough; nothing for none."""
    precision = "seconds" if value.microsecond == 0 else "milliseconds" if value.microsecond % 1000 == 0 else "microseconds"
    return value.isoformat(timespec=precision)


def main():
    reader, location, *rest = sys.argv[1:]
    options = json.loads(rest[0]) if rest else None
    version, rows = READERS[reader](location, options)
    print(json.dumps({"version": version, "rows": [spelled(row) for row in rows]}), flush=True)


main()
# The rows are out. The readers' thread pools do not always survive the end of the interpreter (`terminate called without an
# active exception`), and how they end is not what is tested.
os._exit(0)
