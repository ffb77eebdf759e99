UNIT_TESTS += test/unit/net/test_sock
test_unit_net_test_sock_SOURCES = test/unit/net/test_sock.c
test_unit_net_test_sock_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/net/test_listen
test_unit_net_test_listen_SOURCES = test/unit/net/test_listen.c
test_unit_net_test_listen_LDADD = $(UNIT_LIBS)
