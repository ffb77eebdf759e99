# Programs that drive the whole engine without threads, network or time.
REPLAY_SOURCES = \
	test/replay/actor.c test/replay/actor.h \
	test/replay/backend.c test/replay/backend.h \
	test/replay/check.c test/replay/check.h \
	test/replay/fake.c test/replay/fake.h \
	test/replay/msgtext.c test/replay/msgtext.h \
	test/replay/world.c test/replay/world.h

REPLAY_TESTS = test/replay/replay test/replay/storm
test_replay_replay_SOURCES = test/replay/replay.c $(REPLAY_SOURCES)
test_replay_replay_LDADD = $(SLUICE_LIBS)
test_replay_storm_SOURCES = test/replay/storm.c test/replay/storm.h test/replay/storm_console.c $(REPLAY_SOURCES)
test_replay_storm_LDADD = $(SLUICE_LIBS)

check_PROGRAMS += $(REPLAY_TESTS)
TESTS += $(REPLAY_TESTS)
EXTRA_DIST += test/replay/README.md test/replay/scenarios
