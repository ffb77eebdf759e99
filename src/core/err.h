/*
 * Error codes. A function that can fail because of a peer, the network or the
 * input returns 0 or -E_*; broken invariants are ASSERTs instead, and there is
 * no third way.
 */
#ifndef PGSLUICE_CORE_ERR_H
#define PGSLUICE_CORE_ERR_H

#include "core/base.h"

/* code, text for a log line */
#define ERR_TABLE(X)                                    \
	X(E_AGAIN, "would block")                       \
	X(E_EOF, "connection closed by the other side") \
	X(E_IO, "input/output error")                   \
	X(E_NOMEM, "out of memory")                     \
	X(E_NOSPACE, "buffer is full")                  \
	X(E_PROTO, "protocol violation")                \
	X(E_TOOBIG, "message too large")                \
	X(E_SYNTAX, "syntax error")                     \
	X(E_RANGE, "value out of range")                \
	X(E_NOENT, "not found")                         \
	X(E_EXISTS, "already exists")                   \
	X(E_AUTH, "authentication failed")              \
	X(E_UNSUPPORTED, "not supported")               \
	X(E_TIMEOUT, "timed out")                       \
	X(E_CLOSED, "closed")                           \
	X(E_SYS, "system error")

enum err_code {
	E_OK = 0,
#define X(code, text) code,
	ERR_TABLE(X)
#undef X
};

/* Text for a code, given with or without its minus sign; never NULL. */
const char *err_str(int code);

#endif
