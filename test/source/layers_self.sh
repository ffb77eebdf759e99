#!/bin/sh
# The check of the structure finds every kind of offence.
exec python3 "${srcdir:-.}/contrib/check-layers.py" --self-test
