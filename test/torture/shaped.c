#include "shaped.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "ddl.h"
#include "report.h"

#define OID_INT8 20
#define OID_INT4 23
#define OID_TEXT 25

/* One field of a description; returns what is behind it, or NULL. */
static const uint8_t *shaped_take_field(struct shaped_col *col, const uint8_t *p, const uint8_t *end)
{
	const uint8_t *zero = memchr(p, 0, (size_t)(end - p));

	if (!zero || end - zero < 19 || (size_t)(zero - p) >= sizeof(col->name))
		return NULL;
	snprintf(col->name, sizeof(col->name), "%s", (const char *)p);
	col->oid = bytes_get_u32(zero + 7);
	return zero + 19;
}

bool shaped_take_description(struct shaped *sh, const uint8_t *body, size_t len, char *why)
{
	const uint8_t *p = body + 2;
	int n = len >= 2 ? (int)bytes_get_u16(body) : 0;

	sh->told = false;
	if (n < SHAPED_FIXED || n > SHAPED_MAX_COLS) {
		snprintf(why, SHAPED_WHY_BYTES, "a description of %d columns", n);
		return false;
	}
	for (int i = 0; i < n && p; i++)
		p = shaped_take_field(&sh->cols[i], p, body + len);
	if (p != body + len || strcmp(sh->cols[0].name, "who") != 0 || strcmp(sh->cols[1].name, "seq") != 0) {
		snprintf(why, SHAPED_WHY_BYTES, "not a description of this statement");
		return false;
	}
	sh->n_cols = n;
	sh->told = true;
	return true;
}

/* What a column of the table holds in every row. */
static bool shaped_value(const struct shaped_col *col, bool binary, struct bytes *v)
{
	int k = col->name[1] - '0';

	if (col->name[0] != 'k' || k < 0 || k > 9 || col->name[2])
		return false;
	if (col->oid == OID_TEXT) {
		bytes_printf(v, "k%d text", k);
	} else if (col->oid == OID_INT4) {
		if (binary)
			bytes_u32(v, (uint32_t)k);
		else
			bytes_printf(v, "%d", k);
	} else if (col->oid == OID_INT8) {
		if (binary) {
			bytes_u32(v, 1);
			bytes_u32(v, (uint32_t)k);
		} else {
			bytes_printf(v, "%llu", (1ull << 32) + (unsigned)k);
		}
	} else {
		return false;
	}
	return true;
}

bool shaped_check_row(const struct shaped *sh, bool binary, const uint8_t *own, size_t own_len, const uint8_t *body,
		      size_t len, char *why)
{
	size_t at = 2 + own_len;
	struct bytes v = { 0 };
	bool good = true;

	if (!sh->told || len < at || bytes_get_u16(body) != (unsigned)sh->n_cols ||
	    memcmp(body + 2, own, own_len) != 0) {
		snprintf(why, SHAPED_WHY_BYTES, "a row of %u columns that %s", len < 2 ? 0 : bytes_get_u16(body),
			 sh->told ? "is not of this statement, or not as its description says" : "was not described");
		return false;
	}
	for (int i = SHAPED_FIXED; i < sh->n_cols && good; i++) {
		const struct shaped_col *col = &sh->cols[i];

		bytes_clear(&v, SIZE_MAX);
		good = shaped_value(col, binary, &v) && len - at >= 4 + v.len && bytes_get_u32(body + at) == v.len &&
		       memcmp(body + at + 4, v.data, v.len) == 0;
		at += 4 + v.len;
		if (!good)
			snprintf(why, SHAPED_WHY_BYTES, "column %d is not what a column \"%s\" of type %u holds", i,
				 col->name, col->oid);
	}
	if (good && at != len) {
		snprintf(why, SHAPED_WHY_BYTES, "a row that is longer than its description says");
		good = false;
	}
	bytes_free(&v);
	return good;
}

bool shaped_check_end(size_t n_rows, const uint8_t *body, size_t len, char *why)
{
	char tag[32];

	snprintf(tag, sizeof(tag), "SELECT %zu", n_rows);
	if (n_rows != DDL_ROWS || len != strlen(tag) + 1 || memcmp(body, tag, len) != 0) {
		snprintf(why, SHAPED_WHY_BYTES, "%zu rows, and then the tag %.*s", n_rows, (int)len,
			 (const char *)body);
		return false;
	}
	report_add(shaped_good, 1);
	return true;
}

void shaped_refuse(struct shaped *sh)
{
	sh->unsure = true;
	report_add(shaped_refused, 1);
}
