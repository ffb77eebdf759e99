# A fuzz target is one C file with LLVMFuzzerTestOneInput() and a corpus of
# small files in test/fuzz/corpus/<name>/. It takes four lines:
#   FUZZ_TARGETS += test/fuzz/fuzz_startup
#   test_fuzz_fuzz_startup_SOURCES = test/fuzz/fuzz_startup.c $(FUZZ_SOURCES)
#   test_fuzz_fuzz_startup_LDFLAGS = $(FUZZ_LINK)
#   test_fuzz_fuzz_startup_LDADD = $(SLUICE_LIBS)
#
# Without --with-fuzzer, "make check" replays the corpus through a plain
# main(). With it (clang) the targets are libFuzzer programs, and "make fuzz
# FUZZ_SECONDS=60" runs them one after the other; what they find worth keeping
# goes to fuzz-out/<name>/ in the build tree, never to the sources.
FUZZ_TARGETS =
FUZZ_SECONDS = 60

if WITH_FUZZER
FUZZ_SOURCES = test/fuzz/fuzz.h
FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer
else
FUZZ_SOURCES = test/fuzz/replay_main.c test/fuzz/fuzz.h
FUZZ_LINK = $(AM_LDFLAGS)
endif

FUZZ_TARGETS += test/fuzz/fuzz_classify
test_fuzz_fuzz_classify_SOURCES = test/fuzz/fuzz_classify.c $(FUZZ_SOURCES)
test_fuzz_fuzz_classify_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_classify_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_connstr
test_fuzz_fuzz_connstr_SOURCES = test/fuzz/fuzz_connstr.c $(FUZZ_SOURCES)
test_fuzz_fuzz_connstr_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_connstr_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_ini
test_fuzz_fuzz_ini_SOURCES = test/fuzz/fuzz_ini.c $(FUZZ_SOURCES)
test_fuzz_fuzz_ini_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_ini_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_ldap_options
test_fuzz_fuzz_ldap_options_SOURCES = test/fuzz/fuzz_ldap_options.c $(FUZZ_SOURCES)
test_fuzz_fuzz_ldap_options_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_ldap_options_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_parse
test_fuzz_fuzz_parse_SOURCES = test/fuzz/fuzz_parse.c $(FUZZ_SOURCES)
test_fuzz_fuzz_parse_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_parse_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_soa
test_fuzz_fuzz_soa_SOURCES = test/fuzz/fuzz_soa.c $(FUZZ_SOURCES)
test_fuzz_fuzz_soa_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_soa_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_sql
test_fuzz_fuzz_sql_SOURCES = test/fuzz/fuzz_sql.c $(FUZZ_SOURCES)
test_fuzz_fuzz_sql_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_sql_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_startup
test_fuzz_fuzz_startup_SOURCES = test/fuzz/fuzz_startup.c $(FUZZ_SOURCES)
test_fuzz_fuzz_startup_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_startup_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_wire
test_fuzz_fuzz_wire_SOURCES = test/fuzz/fuzz_wire.c $(FUZZ_SOURCES)
test_fuzz_fuzz_wire_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_wire_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_auth
test_fuzz_fuzz_auth_SOURCES = test/fuzz/fuzz_auth.c $(FUZZ_SOURCES)
test_fuzz_fuzz_auth_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_auth_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_auth_reply
test_fuzz_fuzz_auth_reply_SOURCES = test/fuzz/fuzz_auth_reply.c $(FUZZ_SOURCES)
test_fuzz_fuzz_auth_reply_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_auth_reply_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_scram_client
test_fuzz_fuzz_scram_client_SOURCES = test/fuzz/fuzz_scram_client.c $(FUZZ_SOURCES)
test_fuzz_fuzz_scram_client_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_scram_client_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_scram_server
test_fuzz_fuzz_scram_server_SOURCES = test/fuzz/fuzz_scram_server.c $(FUZZ_SOURCES)
test_fuzz_fuzz_scram_server_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_scram_server_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_userlist
test_fuzz_fuzz_userlist_SOURCES = test/fuzz/fuzz_userlist.c $(FUZZ_SOURCES)
test_fuzz_fuzz_userlist_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_userlist_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_hba
test_fuzz_fuzz_hba_SOURCES = test/fuzz/fuzz_hba.c $(FUZZ_SOURCES)
test_fuzz_fuzz_hba_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_hba_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_ident
test_fuzz_fuzz_ident_SOURCES = test/fuzz/fuzz_ident.c $(FUZZ_SOURCES)
test_fuzz_fuzz_ident_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_ident_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_track
test_fuzz_fuzz_track_SOURCES = test/fuzz/fuzz_track.c $(FUZZ_SOURCES)
test_fuzz_fuzz_track_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_track_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_stream
test_fuzz_fuzz_stream_SOURCES = test/fuzz/fuzz_stream.c $(FUZZ_SOURCES)
test_fuzz_fuzz_stream_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_stream_LDADD = $(SLUICE_LIBS)

FUZZ_TARGETS += test/fuzz/fuzz_link
test_fuzz_fuzz_link_SOURCES = test/fuzz/fuzz_link.c test/fuzz/session.c test/fuzz/session.h $(REPLAY_SOURCES) $(FUZZ_SOURCES)
test_fuzz_fuzz_link_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_link_LDADD = $(SLUICE_LIBS)

EXTRA_DIST += test/fuzz/corpus
check_PROGRAMS += $(FUZZ_TARGETS)

# libFuzzer looks at the clock after half of -timeout, and fuzz_link plays with the clock: it must not come to that.
if WITH_FUZZER
fuzz: $(FUZZ_TARGETS)
	set -e; for t in $(FUZZ_TARGETS); do \
		name=$${t##*/fuzz_}; \
		$(MKDIR_P) fuzz-out/$$name; \
		./$$t -max_total_time=$(FUZZ_SECONDS) -timeout=$$((3 * $(FUZZ_SECONDS) + 60)) -artifact_prefix=fuzz-out/$$name- \
			fuzz-out/$$name $(srcdir)/test/fuzz/corpus/$$name; \
	done
else
TESTS += $(FUZZ_TARGETS)
fuzz:
	@echo "make fuzz needs configure --with-fuzzer CC=clang" >&2; exit 1
endif
