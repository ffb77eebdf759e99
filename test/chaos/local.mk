# Run by test/run.sh --chaos or by hand; see test/chaos/README.md.
EXTRA_DIST += \
	test/chaos/README.md \
	test/chaos/chaos.py \
	test/chaos/relay.py \
	test/chaos/report.py \
	test/chaos/rig.py \
	test/chaos/run.sh \
	test/chaos/scenarios.py \
	test/chaos/session.py \
	test/chaos/workload.py
