#!/bin/sh
# The check of the structure finds every kind of offence.
command -v python3 >/dev/null || { echo "skipped: needs python3"; exit 77; }
exec python3 "${srcdir:-.}/contrib/check-layers.py" --self-test
