libpgsluice_a_SOURCES += \
	src/proto/aborted.c \
	src/proto/aborted.h \
	src/proto/build.c \
	src/proto/build.h \
	src/proto/classify.c \
	src/proto/classify.h \
	src/proto/classify_tbl.h \
	src/proto/frame.h \
	src/proto/msg.c \
	src/proto/msg.h \
	src/proto/parse.c \
	src/proto/parse.h \
	src/proto/sql.c \
	src/proto/sql.h \
	src/proto/startup.c \
	src/proto/startup.h \
	src/proto/track.c \
	src/proto/track.h \
	src/proto/wire.c \
	src/proto/wire.h
