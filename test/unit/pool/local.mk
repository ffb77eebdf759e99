UNIT_TESTS += test/unit/pool/test_rollup
test_unit_pool_test_rollup_SOURCES = test/unit/pool/test_rollup.c
test_unit_pool_test_rollup_LDADD = $(UNIT_LIBS)
