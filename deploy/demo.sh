#!/bin/sh
# The main job, seen from outside: take in a file, wait until both lanes are empty, compare
# every profile with what the file means. Exits 0 if all are right.
#   demo.sh FILE SANDBOX_URL
set -eu

# 1 only says that some lines were refused, which the example has on purpose.
persona-sync import "$1" --json || [ $? -eq 1 ]

is_empty='import json, sys; s = json.load(sys.stdin); sys.exit(not s["idle"] or s["pending"] > 0)'
tries=300
until persona-sync status --json | python -c "$is_empty"; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "Not everything was delivered in time:" >&2
        persona-sync status >&2
        exit 1
    fi
    sleep 1
done

exec python -m sandbox.engage.oracle --input "$1" --braze "$2" --json
