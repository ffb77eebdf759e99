#!/bin/sh
# The structure of src/: layers, guards, own headers, sizes, lists, the map.
exec python3 "${srcdir:-.}/contrib/check-layers.py" --srcdir "${srcdir:-.}" --builddir .
