libpgsluice_a_SOURCES += \
	src/auth/auth.c src/auth/auth.h \
	src/auth/auth_server.c \
	src/auth/base64.c src/auth/base64.h \
	src/auth/crypto.c src/auth/crypto.h \
	src/auth/hba.c src/auth/hba.h src/auth/hba_int.h \
	src/auth/hba_parse.c \
	src/auth/ident.c src/auth/ident.h \
	src/auth/ldap.c src/auth/ldap.h \
	src/auth/ldap_options.c src/auth/ldap_options.h \
	src/auth/md5.c src/auth/md5.h \
	src/auth/pam.c src/auth/pam.h \
	src/auth/pattern.c src/auth/pattern.h \
	src/auth/rulefile.c src/auth/rulefile.h \
	src/auth/saslprep.c src/auth/saslprep.h \
	src/auth/scram.c src/auth/scram.h src/auth/scram_int.h \
	src/auth/scram_client.c \
	src/auth/scram_server.c \
	src/auth/secret.c src/auth/secret.h \
	src/auth/users.c src/auth/users.h
