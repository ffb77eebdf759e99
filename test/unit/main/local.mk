UNIT_TESTS += test/unit/main/test_reload
test_unit_main_test_reload_SOURCES = test/unit/main/test_reload.c
test_unit_main_test_reload_LDFLAGS = -Wl,--wrap=ldap_is_supported -Wl,--wrap=pam_is_supported
test_unit_main_test_reload_LDADD = $(UNIT_LIBS)
