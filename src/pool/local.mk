libpgsluice_a_SOURCES += \
	src/pool/cancel.c src/pool/cancel.h \
	src/pool/client.c src/pool/client.h \
	src/pool/engine.c src/pool/engine.h \
	src/pool/handover.c src/pool/handover.h \
	src/pool/janitor.c src/pool/janitor.h \
	src/pool/link.c src/pool/link.h \
	src/pool/login.c src/pool/login.h \
	src/pool/pool.c src/pool/pool.h \
	src/pool/registry_walk.c src/pool/registry_walk.h \
	src/pool/report.c src/pool/report.h \
	src/pool/rollup.c src/pool/rollup.h \
	src/pool/route.c src/pool/route.h \
	src/pool/server.c src/pool/server.h \
	src/pool/server_login.c src/pool/server_login.h \
	src/pool/stats.c src/pool/stats.h \
	src/pool/suspend.c src/pool/suspend.h \
	src/pool/vars.c src/pool/vars.h
