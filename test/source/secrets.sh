#!/bin/sh
# Secrets are compared in constant time, and are in no log line.
exec python3 "${srcdir:-.}/test/source/secrets.py" "${srcdir:-.}"
