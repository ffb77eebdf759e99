libpgsluice_a_SOURCES += \
	src/admin/admin.c src/admin/admin.h
