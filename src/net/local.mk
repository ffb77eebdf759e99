libpgsluice_a_SOURCES += \
	src/net/loop.c src/net/loop.h \
	src/net/stream.c src/net/stream.h
