# One program per module, named after it: test/unit/<layer>/test_<module>.c
UNIT_TESTS =
UNIT_LIBS = $(SLUICE_LIBS) $(CMOCKA_LIBS)

# A unit test is three lines:
#   UNIT_TESTS += test/unit/core/test_buf
#   test_unit_core_test_buf_SOURCES = test/unit/core/test_buf.c
#   test_unit_core_test_buf_LDADD = $(UNIT_LIBS)
include test/unit/core/local.mk
include test/unit/proto/local.mk
include test/unit/auth/local.mk
include test/unit/conf/local.mk
include test/unit/net/local.mk
include test/unit/pool/local.mk
include test/unit/admin/local.mk
include test/unit/doc/local.mk
include test/unit/main/local.mk

if HAVE_CMOCKA
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
endif
