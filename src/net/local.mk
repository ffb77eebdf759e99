libpgsluice_a_SOURCES += \
	src/net/dns.c src/net/dns.h \
	src/net/dns_zone.c src/net/dns_zone.h \
	src/net/job.c src/net/job.h \
	src/net/listen.c src/net/listen.h \
	src/net/loop.c src/net/loop.h \
	src/net/soa.c src/net/soa.h \
	src/net/netif.c src/net/netif.h \
	src/net/sock.c src/net/sock.h \
	src/net/stream.c src/net/stream.h \
	src/net/tls.c src/net/tls.h \
	src/net/tls_ctx.c src/net/tls_ctx.h \
	src/net/tls_pem.c src/net/tls_pem.h \
	src/net/tls_session.c src/net/tls_session.h
