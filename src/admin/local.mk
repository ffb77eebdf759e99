libpgsluice_a_SOURCES += \
	src/admin/admin.c src/admin/admin.h src/admin/admin_int.h \
	src/admin/command.c src/admin/command.h \
	src/admin/console.c src/admin/console.h src/admin/console_errors.h \
	src/admin/ctl.c \
	src/admin/ctl_breaker.c \
	src/admin/ctl_reload.c \
	src/admin/extended.c src/admin/extended.h \
	src/admin/http.c src/admin/http.h \
	src/admin/ready.c src/admin/ready.h \
	src/admin/show_fds.c \
	src/admin/show.c src/admin/show.h \
	src/admin/show_auth.c \
	src/admin/show_breakers.c \
	src/admin/show_conf.c \
	src/admin/show_health.c \
	src/admin/show_mem.c \
	src/admin/show_pools.c \
	src/admin/show_queue.c \
	src/admin/show_retries.c \
	src/admin/show_sockets.c \
	src/admin/show_stats.c \
	src/admin/show_timeouts.c
