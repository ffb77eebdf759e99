dist_doc_DATA += doc/authentication.md doc/config.md doc/differences.md doc/drivers.md doc/hba.md \
	doc/ldap-and-pam.md doc/logging.md doc/migrating-from-pgbouncer.md doc/replication.md \
	doc/resilience.md doc/tls.md
dist_man_MANS += doc/pgsluice.1 doc/pgsluice.5
EXTRA_DIST += doc/pgsluice.1.in doc/pgsluice.5.in

# Four files come from the tables of the program: doc/config.md, etc/pgsluice.ini and, with the help of templates, the
# manual pages. After a change of a table or a template, "make update-doc" writes them into the source tree.
EXTRA_PROGRAMS = doc/confdoc
doc_confdoc_SOURCES = doc/confdoc.c doc/manpage.c doc/manpage.h
doc_confdoc_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
doc_confdoc_LDADD = $(SLUICE_LIBS)
CLEANFILES += doc/confdoc$(EXEEXT)

update-doc: doc/confdoc$(EXEEXT)
	./doc/confdoc md >$(srcdir)/doc/config.md.new && mv $(srcdir)/doc/config.md.new $(srcdir)/doc/config.md
	./doc/confdoc ini >$(srcdir)/etc/pgsluice.ini.new && mv $(srcdir)/etc/pgsluice.ini.new $(srcdir)/etc/pgsluice.ini
	for n in 1 5; do \
		./doc/confdoc man $(srcdir)/doc/pgsluice.$$n.in >$(srcdir)/doc/pgsluice.$$n.new && \
			mv $(srcdir)/doc/pgsluice.$$n.new $(srcdir)/doc/pgsluice.$$n || exit 1; \
	done
