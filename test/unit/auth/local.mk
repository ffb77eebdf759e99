UNIT_TESTS += test/unit/auth/test_base64
test_unit_auth_test_base64_SOURCES = test/unit/auth/test_base64.c
test_unit_auth_test_base64_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_crypto
test_unit_auth_test_crypto_SOURCES = test/unit/auth/test_crypto.c
test_unit_auth_test_crypto_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_secret
test_unit_auth_test_secret_SOURCES = test/unit/auth/test_secret.c
test_unit_auth_test_secret_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_md5
test_unit_auth_test_md5_SOURCES = test/unit/auth/test_md5.c
test_unit_auth_test_md5_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_users
test_unit_auth_test_users_SOURCES = test/unit/auth/test_users.c
test_unit_auth_test_users_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_scram
test_unit_auth_test_scram_SOURCES = test/unit/auth/test_scram.c
test_unit_auth_test_scram_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_auth
test_unit_auth_test_auth_SOURCES = test/unit/auth/test_auth.c
test_unit_auth_test_auth_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_auth_server
test_unit_auth_test_auth_server_SOURCES = test/unit/auth/test_auth_server.c
test_unit_auth_test_auth_server_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_ldap_options
test_unit_auth_test_ldap_options_SOURCES = test/unit/auth/test_ldap_options.c
test_unit_auth_test_ldap_options_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_pattern
test_unit_auth_test_pattern_SOURCES = test/unit/auth/test_pattern.c
test_unit_auth_test_pattern_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_rulefile
test_unit_auth_test_rulefile_SOURCES = test/unit/auth/test_rulefile.c test/unit/auth/rules_test.h
test_unit_auth_test_rulefile_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_ident
test_unit_auth_test_ident_SOURCES = test/unit/auth/test_ident.c test/unit/auth/rules_test.h
test_unit_auth_test_ident_LDADD = $(UNIT_LIBS)

UNIT_TESTS += test/unit/auth/test_hba
test_unit_auth_test_hba_SOURCES = test/unit/auth/test_hba.c test/unit/auth/rules_test.h
test_unit_auth_test_hba_LDADD = $(UNIT_LIBS)
UNIT_TESTS += test/unit/auth/test_saslprep
test_unit_auth_test_saslprep_SOURCES = test/unit/auth/test_saslprep.c
test_unit_auth_test_saslprep_LDADD = $(UNIT_LIBS)
