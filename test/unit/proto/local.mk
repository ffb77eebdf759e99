UNIT_TESTS += test/unit/proto/test_aborted
test_unit_proto_test_aborted_SOURCES = test/unit/proto/test_aborted.c test/unit/proto/proto_test.h
test_unit_proto_test_aborted_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_build
test_unit_proto_test_build_SOURCES = test/unit/proto/test_build.c test/unit/proto/proto_test.h
test_unit_proto_test_build_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_msg
test_unit_proto_test_msg_SOURCES = test/unit/proto/test_msg.c test/unit/proto/proto_test.h
test_unit_proto_test_msg_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_parse
test_unit_proto_test_parse_SOURCES = test/unit/proto/test_parse.c test/unit/proto/proto_test.h
test_unit_proto_test_parse_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_sql
test_unit_proto_test_sql_SOURCES = test/unit/proto/test_sql.c test/unit/proto/proto_test.h
test_unit_proto_test_sql_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_startup
test_unit_proto_test_startup_SOURCES = test/unit/proto/test_startup.c test/unit/proto/proto_test.h
test_unit_proto_test_startup_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_wire
test_unit_proto_test_wire_SOURCES = test/unit/proto/test_wire.c test/unit/proto/proto_test.h
test_unit_proto_test_wire_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_track
test_unit_proto_test_track_SOURCES = test/unit/proto/test_track.c test/unit/proto/proto_test.h
test_unit_proto_test_track_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/proto/test_classify
test_unit_proto_test_classify_SOURCES = test/unit/proto/test_classify.c test/unit/proto/proto_test.h
test_unit_proto_test_classify_LDADD = $(UNIT_LIBS)
