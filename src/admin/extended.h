/*
 * The extended query protocol on the console: commands as prepared statements
 * without parameters, for drivers that know no other way. PgBouncer refuses
 * it, and so does the console under PgBouncer's profile.
 */
#ifndef PGSLUICE_ADMIN_EXTENDED_H
#define PGSLUICE_ADMIN_EXTENDED_H

#include "admin/show.h"

struct extended;

/* A session's statements and portals. */
struct extended *extended_new(void) MUSTCHECK;
/* Nulls the pointer; NULL inside is fine. */
void extended_free(struct extended **extended);

/* Works on a message; false when it is none of the extended protocol. */
bool extended_message(struct console *console, uint8_t type, struct slice body);

/* The formats that the portal being executed was bound with. */
const struct show_formats *extended_formats(const struct extended *extended);

#endif
