libpgsluice_a_SOURCES += \
	src/proto/build.h \
	src/proto/frame.h \
	src/proto/msg.h \
	src/proto/parse.h \
	src/proto/sql.h \
	src/proto/startup.h \
	src/proto/track.c \
	src/proto/track.h \
	src/proto/wire.h
