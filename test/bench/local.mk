# Built by make check so that it keeps compiling; bench.py compiles its own with -O2.
check_PROGRAMS += test/bench/relay
test_bench_relay_SOURCES = test/bench/relay.c
check_PROGRAMS += test/bench/storm
test_bench_storm_SOURCES = test/bench/storm.c
test_bench_storm_LDADD = $(SLUICE_LIBS)
EXTRA_DIST += test/bench/bench.py test/bench/reload.py test/bench/show_clients.py test/bench/statements.py test/bench/storm.py doc/benchmark.md
