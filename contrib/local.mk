EXTRA_DIST += \
	contrib/check-layers.py \
	contrib/lint.sh \
	contrib/packages.sh \
	contrib/quickstart.sh
