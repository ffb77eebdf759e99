# Built by make check so that it keeps compiling; bench.py compiles its own with -O2.
check_PROGRAMS += test/bench/relay
test_bench_relay_SOURCES = test/bench/relay.c
EXTRA_DIST += test/bench/bench.py test/bench/reload.py test/bench/show_clients.py test/bench/statements.py doc/benchmark.md
