UNIT_TESTS += test/unit/core/test_log
test_unit_core_test_log_SOURCES = test/unit/core/test_log.c
test_unit_core_test_log_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/core/test_buf
test_unit_core_test_buf_SOURCES = test/unit/core/test_buf.c
test_unit_core_test_buf_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/core/test_str
test_unit_core_test_str_SOURCES = test/unit/core/test_str.c
test_unit_core_test_str_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/core/test_err
test_unit_core_test_err_SOURCES = test/unit/core/test_err.c
test_unit_core_test_err_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/core/test_lock
test_unit_core_test_lock_SOURCES = test/unit/core/test_lock.c
test_unit_core_test_lock_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/core/test_siphash
test_unit_core_test_siphash_SOURCES = test/unit/core/test_siphash.c
test_unit_core_test_siphash_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/core/test_pidfile
test_unit_core_test_pidfile_SOURCES = test/unit/core/test_pidfile.c
test_unit_core_test_pidfile_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/core/test_systemd
test_unit_core_test_systemd_SOURCES = test/unit/core/test_systemd.c
test_unit_core_test_systemd_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/core/test_syslog
test_unit_core_test_syslog_SOURCES = test/unit/core/test_syslog.c
test_unit_core_test_syslog_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/core/test_reason
test_unit_core_test_reason_SOURCES = test/unit/core/test_reason.c
test_unit_core_test_reason_LDADD = $(UNIT_LIBS)
