#!/usr/bin/env bash
# Runs the tests on a fresh machine: installs what they need, lends them a PostgreSQL, and takes it away again.
#
#   tests/run.sh test           all tests of the workspace
#   tests/run.sh sqllogictest   DataFusion's whole SQL suite, with a table of how it went
#
# What is needed and missing is installed where that can be done without asking: Python packages into .venv, Debian packages
# when this runs as root. Otherwise it says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

say() { printf '%s\n' "$*" >&2; }

need_rust() {
    if ! command -v cargo >/dev/null; then
        say "cargo is missing: install Rust (rustup, or your system's package) and run this again"
        exit 1
    fi
}

# Debian packages, when we may. Fails when we may not.
apt_install() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
    apt-get update >/dev/null 2>&1 || return 1
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null
}

# Programs that read the tables we write, for tests/interop.
python_readers() {
    local wanted have=.venv/installed
    wanted=$(cat tests/interop/requirements.txt)
    if [ -x .venv/bin/python ] && [ -f "$have" ] && [ "$(cat "$have")" = "$wanted" ]; then
        return
    fi
    say "installing the readers of tests/interop into .venv"
    rm -rf .venv
    if ! python3 -m venv .venv 2>/dev/null; then
        rm -rf .venv
        apt_install python3 python3-venv || { say "python3 with venv is missing: install it (brew install python)"; exit 1; }
        python3 -m venv .venv
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
    printf '%s\n' "$wanted" > "$have"
}

postgres_bin() {
    local found
    if found=$(command -v pg_ctl); then
        dirname "$(readlink -f "$found")"
        return
    fi
    # Debian keeps the programs of a server out of the path.
    ls -d /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin 2>/dev/null |
        while read -r folder; do [ -x "$folder/initdb" ] && echo "$folder"; done | sort -V | tail -n 1
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

postgres_data=
postgres_programs=

# A PostgreSQL of our own, on loopback, with TLS, in a temporary directory; its address goes to the catalog's tests.
start_postgres() {
    postgres_programs=$(postgres_bin)
    if [ -z "$postgres_programs" ]; then
        say "installing PostgreSQL for the tests of the catalog"
        apt_install postgresql || { say "PostgreSQL is missing: install it (brew install postgresql)"; exit 1; }
        postgres_programs=$(postgres_bin)
    fi
    postgres_data=$(mktemp -d "${TMPDIR:-/tmp}/wasmhouse-postgres.XXXXXX")
    [ "$(id -u)" != 0 ] || chown postgres "$postgres_data"
    as_postgres "$postgres_programs/initdb" -D "$postgres_data/cluster" -U wasmhouse --auth=trust --encoding=UTF8 \
        --locale=C --no-sync >/dev/null
    command -v openssl >/dev/null || apt_install openssl || { say "openssl is missing: install it"; exit 1; }
    as_postgres openssl req -new -x509 -nodes -days 2 -subj /CN=localhost \
        -keyout "$postgres_data/cluster/server.key" -out "$postgres_data/cluster/server.crt" 2>/dev/null
    as_postgres chmod 600 "$postgres_data/cluster/server.key"

    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    as_postgres "$postgres_programs/pg_ctl" -D "$postgres_data/cluster" -l "$postgres_data/log" -w -o \
        "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$postgres_data -c fsync=off -c max_connections=200 -c ssl=on" \
        start >/dev/null || { cat "$postgres_data/log" >&2; exit 1; }
    export WASMHOUSE_TEST_POSTGRES="postgres://wasmhouse@127.0.0.1:$port/postgres"
}

stop_postgres() {
    [ -n "$postgres_data" ] || return 0
    # pg_ctl knows its server by the process id that it wrote down.
    as_postgres "$postgres_programs/pg_ctl" -D "$postgres_data/cluster" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$postgres_data"
}
trap stop_postgres EXIT

# DataFusion's SQL suite comes with a crate that is fetched and never compiled; see tests/sql/README.md.
sql_suite() {
    cargo fetch --quiet --locked
}

run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --release --locked --workspace "$@"
    else
        cargo test --release --locked --workspace "$@"
    fi
}

need_rust
export WASMHOUSE_TEST_PYTHON="$root/.venv/bin/python"
case "${1:-test}" in
test)
    python_readers
    start_postgres
    sql_suite
    run_tests
    ;;
sqllogictest)
    sql_suite
    WASMHOUSE_SQL_FILES=all cargo test --release --locked --package wasmhouse --test sql -- --nocapture
    ;;
*)
    say "tests/run.sh knows test and sqllogictest"
    exit 2
    ;;
esac
