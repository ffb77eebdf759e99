/*
 * What the pooler says in its own name: errors to clients, log lines about
 * connections.
 */
#ifndef PGSLUICE_POOL_REPORT_H
#define PGSLUICE_POOL_REPORT_H

#include "core/buf.h"
#include "core/log.h"
#include "core/reason_tbl.h"
#include "pool/engine.h"

/*
 * Appends an ErrorResponse in the style of error_style: with PgBouncer's, the
 * state is 08P01 unless `is_backend` says that text and state are a server's.
 */
int report_error(struct buf *b, const struct conf *conf, const char *severity, const char *text, const char *sqlstate,
		 bool is_backend) MUSTCHECK;

/* Appends a NoticeResponse. */
int report_notice(struct buf *b, const struct conf *conf, const char *text) MUSTCHECK;

#endif
