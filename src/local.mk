# Everything but main() is a library, so that the tests link what the program runs.
noinst_LIBRARIES += libpgsluice.a
libpgsluice_a_SOURCES = \
	src/check_diff.c src/check_diff.h \
	src/control.c src/control.h \
	src/daemon.c src/daemon.h \
	src/reload.c src/reload.h \
	src/takeover.c src/takeover.h \
	src/watchdog.c src/watchdog.h
bin_PROGRAMS += pgsluice
pgsluice_SOURCES = src/main.c src/main_options.h
SLUICE_LIBS = libpgsluice.a $(EVENT_LIBS) $(OPENSSL_LIBS) $(PQ_LIBS) $(INIH_LIBS) $(IDN_LIBS) $(LDAP_LIBS) $(PAM_LIBS)
pgsluice_LDADD = $(SLUICE_LIBS)
EXTRA_DIST += src/README.md

include src/core/local.mk
include src/proto/local.mk
include src/auth/local.mk
include src/net/local.mk
include src/conf/local.mk
include src/pool/local.mk
include src/admin/local.mk
