UNIT_TESTS += test/unit/conf/test_ini
test_unit_conf_test_ini_SOURCES = test/unit/conf/test_ini.c
test_unit_conf_test_ini_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/conf/test_connstr
test_unit_conf_test_connstr_SOURCES = test/unit/conf/test_connstr.c
test_unit_conf_test_connstr_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/conf/test_conf_load
test_unit_conf_test_conf_load_SOURCES = test/unit/conf/test_conf_load.c test/unit/conf/conf_test.h
test_unit_conf_test_conf_load_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/conf/test_conf_names
test_unit_conf_test_conf_names_SOURCES = test/unit/conf/test_conf_names.c test/unit/conf/conf_test.h
test_unit_conf_test_conf_names_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/conf/test_conf_value
test_unit_conf_test_conf_value_SOURCES = test/unit/conf/test_conf_value.c test/unit/conf/conf_test.h
test_unit_conf_test_conf_value_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/conf/test_conf_diff
test_unit_conf_test_conf_diff_SOURCES = test/unit/conf/test_conf_diff.c test/unit/conf/conf_test.h
test_unit_conf_test_conf_diff_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/conf/test_conf_doc
test_unit_conf_test_conf_doc_SOURCES = test/unit/conf/test_conf_doc.c test/unit/conf/conf_test.h
test_unit_conf_test_conf_doc_LDADD = $(UNIT_LIBS)
