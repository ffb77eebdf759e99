UNIT_TESTS += test/unit/doc/test_manpage
test_unit_doc_test_manpage_SOURCES = test/unit/doc/test_manpage.c doc/manpage.c doc/manpage.h
test_unit_doc_test_manpage_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
test_unit_doc_test_manpage_LDADD = $(UNIT_LIBS)
