EXTRA_DIST += contrib/check-layers.py
