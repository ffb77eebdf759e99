dist_doc_DATA += doc/config.md doc/differences.md

# doc/config.md and etc/pgsluice.ini come from src/conf/conf_tbl.h; after a
# change there, "make update-doc" writes both into the source tree.
EXTRA_PROGRAMS = doc/confdoc
doc_confdoc_SOURCES = doc/confdoc.c
doc_confdoc_LDADD = $(SLUICE_LIBS)
CLEANFILES += doc/confdoc$(EXEEXT)

update-doc: doc/confdoc$(EXEEXT)
	./doc/confdoc md >$(srcdir)/doc/config.md.new && mv $(srcdir)/doc/config.md.new $(srcdir)/doc/config.md
	./doc/confdoc ini >$(srcdir)/etc/pgsluice.ini.new && mv $(srcdir)/etc/pgsluice.ini.new $(srcdir)/etc/pgsluice.ini
