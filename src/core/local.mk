libpgsluice_a_SOURCES += \
	src/core/alloc.c src/core/alloc.h \
	src/core/base.c src/core/base.h \
	src/core/buf.c src/core/buf.h \
	src/core/clock.c src/core/clock.h \
	src/core/err.c src/core/err.h \
	src/core/lock.c src/core/lock.h \
	src/core/reason.c src/core/reason_tbl.h \
	src/core/journal.c src/core/journal.h \
	src/core/log.c src/core/log.h \
	src/core/log_int.h src/core/log_line.c src/core/log_site.c \
	src/core/pidfile.c src/core/pidfile.h \
	src/core/siphash.c src/core/siphash.h \
	src/core/str.c src/core/str.h \
	src/core/systemd.c src/core/systemd.h \
	src/core/version.h
