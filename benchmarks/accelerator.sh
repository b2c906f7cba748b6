#!/usr/bin/env bash
# Is this library right and fast on this machine's accelerator? docs/devices.md says how to run it elsewhere.
#
#   bash benchmarks/accelerator.sh [--out=DIR] [--data=DIR] [--smoke]
#
# Ends within eight minutes and leaves DIR/accelerator.jsonl, DIR/log.txt; a run that is cut off leaves what it had.
# `python -m benchmarks.accelerator.collect DIR` makes results/benchmarks/ from it. Wheels in .whl/ are installed
# aside for this run alone. DIR is $OUT, or runs/accelerator. --data is MovieLens-1M, encoded; without it the rows
# of whole runs are made up. --smoke tries all parts on small shapes, on any machine.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-runs/accelerator}
if compgen -G ".whl/*.whl" >/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
# Several processes share the device's memory. What they print comes at once.
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
"$python" -m benchmarks.accelerator --out="$out" "$@"
