# The torture programs: built by make check, run by test/torture/run.sh. They share nothing with src/.
check_PROGRAMS += test/torture/torture test/torture/chaos test/torture/tunnel

test_torture_torture_SOURCES = \
	test/torture/torture.c \
	test/torture/actor.h \
	test/torture/bytes.c test/torture/bytes.h \
	test/torture/cancel.c test/torture/cancel.h \
	test/torture/check.c test/torture/check.h \
	test/torture/client.c test/torture/client.h \
	test/torture/console.c test/torture/console.h test/torture/console_int.h test/torture/console_tbl.h \
	test/torture/console_account.c test/torture/console_restart.c \
	test/torture/ddl.c test/torture/ddl.h \
	test/torture/direct.c test/torture/direct.h \
	test/torture/excuse.c test/torture/excuse.h \
	test/torture/ledger.c test/torture/ledger.h \
	test/torture/options.h \
	test/torture/piece.c test/torture/piece.h \
	test/torture/report.c test/torture/report.h \
	test/torture/rng.h \
	test/torture/script.c test/torture/script.h \
	test/torture/shape.c test/torture/shape.h test/torture/shape_tbl.h \
	test/torture/shape_copy.c \
	test/torture/shape_ext.c \
	test/torture/shape_named.c \
	test/torture/shape_params.c \
	test/torture/shape_prepare.c \
	test/torture/shape_shaped.c \
	test/torture/shape_sql.c \
	test/torture/shape_unnamed.c \
	test/torture/shaped.c test/torture/shaped.h \
	test/torture/startup.c test/torture/startup.h \
	test/torture/statements.c test/torture/statements.h
test_torture_torture_CPPFLAGS = -D_GNU_SOURCE $(PQ_CFLAGS)
test_torture_torture_LDADD = $(PQ_LIBS)

test_torture_chaos_SOURCES = \
	test/torture/chaos.c \
	test/torture/bytes.c test/torture/bytes.h \
	test/torture/direct.c test/torture/direct.h \
	test/torture/rng.h \
	test/torture/sabotage.c test/torture/sabotage.h
test_torture_chaos_CPPFLAGS = -D_GNU_SOURCE

test_torture_tunnel_SOURCES = test/torture/tunnel.c
test_torture_tunnel_CPPFLAGS = -D_GNU_SOURCE $(EVENT_CFLAGS) $(OPENSSL_CFLAGS)
test_torture_tunnel_LDADD = $(EVENT_LIBS) $(OPENSSL_LIBS)

EXTRA_DIST += test/torture/README.md test/torture/mutants.sh test/torture/run.sh
