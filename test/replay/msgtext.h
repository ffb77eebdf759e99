/*
 * Protocol messages as words of text, for scripts and for what they say when
 * something else came. A word is the type letter, then what matters of the
 * body:
 *
 *   from clients:  Q:text  P:text  B  D  E  C  S  H  F  d:data  c  f:text  X  p:password
 *                  startup:user/db, or user/db+replication, and cancel:pid (reading only)
 *   from servers:  Z:I  D:value  C:tag  E:sqlstate:text  N:sqlstate:text
 *                  S:name=value  R:code  K:pid  d:data  1 2 3 n t T s I V G H W c A
 *   with the name of a statement:
 *                  P@name:text  B@name  D@name  C@name; B, P and C without one are of the unnamed statement,
 *                  D is of the unnamed portal
 *   either:        L*n    message of type L with a body of n bytes
 *                  raw:hex  these bytes as they are (writing only)
 */
#ifndef PGSLUICE_TEST_MSGTEXT_H
#define PGSLUICE_TEST_MSGTEXT_H

#include "core/base.h"
#include "core/buf.h"
#include "core/str.h"

/* The longest word that is made. */
#define MSGTEXT_MAX  512

/* A body of text longer than this is shown by its length. */
#define MSGTEXT_LONG 200

/* Appends the message that a word stands for; false when it stands for none. */
bool msgtext_write(struct buf *b, const char *word, bool from_server) MUSTCHECK;

/*
 * Turns the message at p into a word. Returns its size, or 0 when it is not
 * there as a whole. `is_first`: the first message of a client has no type.
 */
size_t msgtext_read(const uint8_t *p, size_t len, bool from_server, bool is_first, char word[MSGTEXT_MAX]);

#endif
