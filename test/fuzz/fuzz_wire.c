/*
 * The writer against the reader: the input is a program that writes fields
 * into a buffer of some maximum, behind bytes that are there already. Either
 * the message is whole and reads back the same, or it is absent; and whether
 * it is can be computed beforehand.
 */
#include "fuzz.h"

#include "core/buf.h"
#include "core/err.h"
#include "proto/wire.h"

enum field_op {
	OP_U8,
	OP_U16,
	OP_U32,
	OP_BYTES,
	OP_STR,
	OP_COUNT,
};

/* One field as the program says it. */
struct field {
	enum field_op op;
	uint32_t number;
	struct slice bytes;
};

/* Takes one field off the program; false at its end. */
static bool fuzz_take_field(struct slice *program, struct field *f)
{
	if (program->n == 0)
		return false;
	f->op = (enum field_op)(fuzz_take_u8(program) % OP_COUNT);
	f->number = fuzz_take_u8(program);
	f->bytes = slice_of("");
	if (f->op == OP_U32 || f->op == OP_U16)
		f->number = f->number << 8 | fuzz_take_u8(program);
	if (f->op == OP_U32)
		f->number = f->number << 16 | fuzz_take_u8(program) << 8 | fuzz_take_u8(program);
	if (f->op >= OP_BYTES)
		f->bytes = fuzz_take(program, f->number);
	return true;
}

static bool fuzz_has_nul(const struct field *f)
{
	return f->op == OP_STR && f->bytes.n > 0 && memchr(f->bytes.p, '\0', f->bytes.n) != NULL;
}

/* Writes the field; returns its length. */
static size_t fuzz_write(struct writer *w, const struct field *f)
{
	switch (f->op) {
	case OP_U8:
		wr_u8(w, (uint8_t)f->number);
		return 1;
	case OP_U16:
		wr_u16(w, (uint16_t)f->number);
		return 2;
	case OP_U32:
		wr_u32(w, f->number);
		return 4;
	case OP_STR:
		wr_str(w, f->bytes);
		return f->bytes.n + 1;
	default:
		wr_slice(w, f->bytes);
		return f->bytes.n;
	}
}

static void fuzz_read(struct reader *r, const struct field *f)
{
	switch (f->op) {
	case OP_U8:
		ASSERT(rd_u8(r) == f->number);
		break;
	case OP_U16:
		ASSERT(rd_u16(r) == f->number);
		break;
	case OP_U32:
		ASSERT(rd_u32(r) == f->number);
		break;
	case OP_STR:
		ASSERT(slice_eq(rd_cstr(r), f->bytes));
		break;
	default:
		ASSERT(slice_eq(rd_bytes(r, f->bytes.n), f->bytes));
		break;
	}
	ASSERT(r->err == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice program = slice_make(data, size), again;
	uint32_t max = (uint32_t)fuzz_take_u8(&program) * 8, before = fuzz_take_u8(&program) % 16;
	uint8_t type = fuzz_take_u8(&program);
	size_t len = type != 0 ? 5 : 4;
	bool has_nul = false;
	struct reader r;
	struct writer w;
	struct field f;
	struct buf b;
	int err;

	buf_init(&b, max);
	if (buf_append(&b, "0123456789abcdef", before) != 0)
		return 0;
	again = program;
	wr_begin(&w, &b, type);
	while (fuzz_take_field(&program, &f)) {
		has_nul |= fuzz_has_nul(&f);
		len += fuzz_write(&w, &f);
	}
	err = wr_end(&w);
	if (has_nul || len > max - before) {
		ASSERT(err == -E_RANGE || err == -E_NOSPACE);
		ASSERT(buf_len(&b) == before);
		buf_fini(&b);
		return 0;
	}
	ASSERT(err == 0 && buf_len(&b) == before + len);
	ASSERT(before == 0 || memcmp(buf_ptr(&b), "0123456789abcdef", before) == 0);
	rd_init(&r, buf_ptr(&b) + before, len);
	ASSERT(type == 0 || rd_u8(&r) == type);
	ASSERT(rd_u32(&r) == len - (type != 0 ? 1 : 0));
	while (fuzz_take_field(&again, &f))
		fuzz_read(&r, &f);
	ASSERT(rd_done(&r));
	(void)rd_u8(&r);
	ASSERT(!rd_done(&r));
	buf_fini(&b);
	return 0;
}
