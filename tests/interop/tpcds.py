"""Makes the tables of TPC-DS and asks its 99 queries, with DuckDB.

    python tpcds.py SCALE FOLDER

Into the folder go `<table>.parquet`, `qNN.sql` and the rows of the answer, `qNN.csv`. The limit of a query is left out: where
rows are alike in what they are ordered by, which of them are the first is chance.
"""

import re
import sys
import tempfile
from pathlib import Path

import duckdb
from duckdb_extensions import import_extension


def main():
    scale, folder = sys.argv[1], Path(sys.argv[2])
    # The extension comes in a package; it is put into a folder that goes away again, and nothing is downloaded.
    with tempfile.TemporaryDirectory(prefix="wasmhouse-duckdb-") as extensions:
        connection = duckdb.connect(config={"extension_directory": extensions})
        connection.execute("set autoinstall_known_extensions = false")
        import_extension("tpcds", con=connection)
        connection.execute("load tpcds")
        connection.execute(f"call dsdgen(sf = {float(scale)})")
        for (table,) in connection.execute("show tables").fetchall():
            connection.execute(f"copy {table} to '{folder / table}.parquet' (format parquet, compression zstd)")
        for number, query in connection.execute("select query_nr, query from tpcds_queries()").fetchall():
            query = re.sub(r"\s+limit\s+\d+\s*;?\s*$", "", query, flags=re.IGNORECASE)
            query = query.rstrip().rstrip(";")
            name = folder / f"q{number:02}"
            name.with_suffix(".sql").write_text(query)
            connection.execute(f"copy ({query}) to '{name}.csv' (format csv, header false)")


main()
