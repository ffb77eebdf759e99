EXTRA_DIST += test/package.sh test/run.sh test/totals.py

include test/source/local.mk
include test/unit/local.mk
include test/fuzz/local.mk
include test/replay/local.mk
include test/torture/local.mk
include test/chaos/local.mk
include test/integration/local.mk
include test/bench/local.mk
include test/drivers/local.mk
