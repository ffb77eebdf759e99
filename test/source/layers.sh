#!/bin/sh
# The structure of src/: layers, guards, own headers, sizes, lists, the map.
command -v python3 >/dev/null || { echo "skipped: needs python3"; exit 77; }
exec python3 "${srcdir:-.}/contrib/check-layers.py" --srcdir "${srcdir:-.}" --builddir .
