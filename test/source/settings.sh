#!/bin/sh
# Every setting that does something has a test, and the table in test/integration/README.md says which.
exec python3 "${srcdir:-.}/test/source/settings.py" --srcdir "${srcdir:-.}"
