libpgsluice_a_SOURCES += \
	src/net/dns.c src/net/dns.h \
	src/net/listen.c src/net/listen.h \
	src/net/loop.c src/net/loop.h \
	src/net/sock.c src/net/sock.h \
	src/net/stream.c src/net/stream.h
