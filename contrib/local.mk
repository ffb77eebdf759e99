EXTRA_DIST += \
	contrib/check-layers.py \
	contrib/lint.sh \
	contrib/lint_uthash.h \
	contrib/packages.sh \
	contrib/quickstart.sh
