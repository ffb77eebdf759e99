UNIT_TESTS += test/unit/admin/test_console
test_unit_admin_test_console_SOURCES = test/unit/admin/test_console.c test/unit/admin/console_test.h
test_unit_admin_test_console_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/admin/test_show
test_unit_admin_test_show_SOURCES = test/unit/admin/test_show.c
test_unit_admin_test_show_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/admin/test_extended
test_unit_admin_test_extended_SOURCES = test/unit/admin/test_extended.c test/unit/admin/console_test.h
test_unit_admin_test_extended_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/admin/test_rights
test_unit_admin_test_rights_SOURCES = test/unit/admin/test_rights.c
test_unit_admin_test_rights_LDADD = $(UNIT_LIBS)
