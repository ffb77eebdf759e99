# Tests of the source tree itself.
SOURCE_TESTS = test/source/layers.sh test/source/layers_self.sh test/source/manpages.sh \
	test/source/secrets.sh test/source/settings.sh test/source/totals_self.sh
TESTS += $(SOURCE_TESTS)
EXTRA_DIST += $(SOURCE_TESTS) test/source/secrets.py test/source/settings.py
