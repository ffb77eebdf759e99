#include "pool/report.h"

#include "core/str.h"
#include "proto/build.h"

/* The state of every error of PgBouncer's own. */
#define REPORT_PLAIN_STATE "08P01"

int report_error(struct buf *b, const struct conf *conf, const char *severity, const char *text, const char *sqlstate,
		 bool is_backend)
{
	bool strict = conf->error_style == CONF_ERROR_POSTGRES;
	struct build_report report = {
		.severity = slice_of(severity),
		.sqlstate = slice_of(strict || is_backend ? sqlstate : REPORT_PLAIN_STATE),
		.message = slice_of(text),
		.full_fields = strict,
	};

	return build_error(b, &report);
}

int report_notice(struct buf *b, const struct conf *conf, const char *text)
{
	struct build_report report = {
		.severity = slice_of("NOTICE"),
		.sqlstate = slice_of("00000"),
		.message = slice_of(text),
		.full_fields = conf->error_style == CONF_ERROR_POSTGRES,
	};

	return build_notice(b, &report);
}
