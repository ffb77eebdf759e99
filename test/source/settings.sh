#!/bin/sh
# Every setting that does something has a test, and the table in test/integration/README.md says which.
command -v python3 >/dev/null || { echo "skipped: needs python3"; exit 77; }
exec python3 "${srcdir:-.}/test/source/settings.py" --srcdir "${srcdir:-.}"
