UNIT_TESTS += test/unit/core/test_log
test_unit_core_test_log_SOURCES = test/unit/core/test_log.c
test_unit_core_test_log_LDADD = $(UNIT_LIBS)
