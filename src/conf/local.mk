libpgsluice_a_SOURCES += \
	src/conf/conf.h src/conf/conf_tbl.h \
	src/conf/connstr.h \
	src/conf/ini.h
