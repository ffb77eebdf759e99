EXTRA_DIST += \
	contrib/check-layers.py \
	contrib/debian/README.md \
	contrib/debian/changelog \
	contrib/debian/clean \
	contrib/debian/control \
	contrib/debian/copyright \
	contrib/debian/postinst \
	contrib/debian/postrm \
	contrib/debian/rules \
	contrib/debian/source/format \
	contrib/lint.sh \
	contrib/lint_macros.h \
	contrib/packages.sh \
	contrib/quickstart.sh

# For whom no package exists: to be copied where the system wants them, with the paths set right.
dist_example_DATA += \
	contrib/pgsluice.logrotate \
	contrib/systemd/pgsluice.service \
	contrib/systemd/pgsluice.socket \
	contrib/systemd/pgsluice.tmpfiles
