/*
 * The manual pages: what people have written, in templates, with what the
 * tables say put in at its place.
 */
#ifndef PGSLUICE_DOC_MANPAGE_H
#define PGSLUICE_DOC_MANPAGE_H

#include <stdbool.h>
#include <stdio.h>

/*
 * Copies a template to `out`. A line @NAME@ gives way to a part made from a
 * table. Returns false when a name is unknown or a file cannot be read or
 * written.
 */
bool manpage_print(FILE *from, FILE *out);

#endif
