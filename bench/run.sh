#!/usr/bin/env bash
# TPC-H beside other systems: installs them into bench/.venv, makes the data once, compares. Arguments go to compare.py.
# With --scaling first: TPC-H with one worker beside several; needs nothing installed. Arguments go to scaling.py.
set -euo pipefail
cd "$(dirname "$0")"

server="${CARGO_TARGET_DIR:-../target}/release/wasmhouse"
if [ "${1:-}" = --scaling ]; then
    shift
    exec python3 scaling.py --server "$server" "$@"
fi

wanted=$(cat requirements.txt)
if [ ! -f .venv/installed ] || [ "$(cat .venv/installed)" != "$wanted" ]; then
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    printf '%s\n' "$wanted" > .venv/installed
fi

exec .venv/bin/python compare.py --server "$server" "$@"
