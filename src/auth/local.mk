libpgsluice_a_SOURCES += \
	src/auth/auth.h \
	src/auth/base64.h \
	src/auth/crypto.h \
	src/auth/md5.h \
	src/auth/scram.h \
	src/auth/secret.h \
	src/auth/users.h
