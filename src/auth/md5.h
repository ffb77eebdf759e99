/*
 * The md5 method of PostgreSQL. A stored secret is "md5" and the hexadecimal
 * MD5 of password and user name in a row; the answer to a salt is "md5" and
 * the hexadecimal MD5 of those 32 digits and the salt.
 */
#ifndef PGSLUICE_AUTH_MD5_H
#define PGSLUICE_AUTH_MD5_H

#include "core/base.h"
#include "core/err.h"
#include "core/str.h"

#define MD5_SALT_LEN   4
#define MD5_SECRET_LEN 35 /* "md5" and 32 digits, without the NUL */

/* The stored form of a password, with its NUL; 0 or -E_UNSUPPORTED (OpenSSL without MD5). */
int md5_make_secret(struct slice password, const char *user_name, char out[MD5_SECRET_LEN + 1]) MUSTCHECK;

/* The answer to a salt from the stored form, with its NUL; 0 or -E_UNSUPPORTED. */
int md5_make_response(const char secret[MD5_SECRET_LEN + 1], const uint8_t salt[MD5_SALT_LEN],
		      char out[MD5_SECRET_LEN + 1]) MUSTCHECK;

#endif
