EXTRA_DIST += \
	contrib/check-layers.py \
	contrib/lint.sh \
	contrib/lint_macros.h \
	contrib/packages.sh \
	contrib/quickstart.sh
