libpgsluice_a_SOURCES += \
	src/conf/conf.c src/conf/conf.h src/conf/conf_int.h src/conf/conf_tbl.h \
	src/conf/conf_check.c \
	src/conf/conf_diff.c src/conf/conf_diff.h \
	src/conf/conf_doc.c \
	src/conf/conf_entry.c \
	src/conf/conf_error.c \
	src/conf/conf_load.c \
	src/conf/conf_names.c \
	src/conf/conf_show.c \
	src/conf/conf_value.c \
	src/conf/connstr.c src/conf/connstr.h \
	src/conf/ini.c src/conf/ini.h
