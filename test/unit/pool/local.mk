UNIT_TESTS += test/unit/pool/test_rollup
test_unit_pool_test_rollup_SOURCES = test/unit/pool/test_rollup.c
test_unit_pool_test_rollup_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/pool/test_vars
test_unit_pool_test_vars_SOURCES = test/unit/pool/test_vars.c
test_unit_pool_test_vars_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/pool/test_cancel_key
test_unit_pool_test_cancel_key_SOURCES = test/unit/pool/test_cancel_key.c
test_unit_pool_test_cancel_key_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/pool/test_stats
test_unit_pool_test_stats_SOURCES = test/unit/pool/test_stats.c
test_unit_pool_test_stats_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/pool/test_report
test_unit_pool_test_report_SOURCES = test/unit/pool/test_report.c
test_unit_pool_test_report_LDADD = $(UNIT_LIBS)
