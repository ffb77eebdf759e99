# Tests of the source tree itself.
SOURCE_TESTS = test/source/layers.sh test/source/layers_self.sh test/source/manpages.sh \
	test/source/settings.sh test/source/totals_self.sh
TESTS += $(SOURCE_TESTS)
EXTRA_DIST += $(SOURCE_TESTS) test/source/settings.py
