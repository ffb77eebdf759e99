/*
 * uthash and <sys/queue.h> as static analysis should see them. The real macros
 * are pointer arithmetic in which clang's analyzer loses track of what a table
 * or list still points to, and then finds uses of freed memory everywhere. Here
 * they are calls of functions that nobody knows the body of, which is all that a
 * caller relies on. Included by contrib/lint.sh ahead of each file; never
 * compiled.
 */
#ifndef PGSLUICE_LINT_MACROS_H
#define PGSLUICE_LINT_MACROS_H

#include <sys/queue.h>
#include <uthash.h>

void lint_hash_add(void *head, const void *key, size_t len, void *item);
void *lint_hash_find(const void *head, const void *key, size_t len);
void lint_hash_del(void *head, void *item);
unsigned lint_hash_value(const void *key, size_t len);

#undef HASH_VALUE
#define HASH_VALUE(key, len, value) ((value) = lint_hash_value(key, len))
#undef HASH_FIND_BYHASHVALUE
#define HASH_FIND_BYHASHVALUE(hh, head, key, len, h, out) ((void)(h), (out) = lint_hash_find(head, key, len))
#undef HASH_FIND
#define HASH_FIND(hh, head, key, len, out) ((out) = lint_hash_find(head, key, len))
#undef HASH_ADD_KEYPTR_BYHASHVALUE
#define HASH_ADD_KEYPTR_BYHASHVALUE(hh, head, key, len, h, item) \
	((void)(h), (head) = (head) ? (head) : (item), lint_hash_add(&(head), key, len, item))
#undef HASH_ADD_KEYPTR
#define HASH_ADD_KEYPTR(hh, head, key, len, item) HASH_ADD_KEYPTR_BYHASHVALUE(hh, head, key, len, 0, item)
#undef HASH_ADD
#define HASH_ADD(hh, head, field, len, item) HASH_ADD_KEYPTR_BYHASHVALUE(hh, head, &(item)->field, len, 0, item)
#undef HASH_REPLACE
#define HASH_REPLACE(hh, head, field, len, item, old)                \
	do {                                                         \
		(old) = lint_hash_find(head, &(item)->field, len);   \
		lint_hash_add(&(head), &(item)->field, len, (item)); \
	} while (0)
#undef HASH_DELETE
#define HASH_DELETE(hh, head, item) lint_hash_del(&(head), item)

void lint_list_remove(void *head, void *item);

#undef TAILQ_REMOVE
#define TAILQ_REMOVE(head, item, field) lint_list_remove(head, item)
#undef STAILQ_REMOVE_HEAD
#define STAILQ_REMOVE_HEAD(head, field) lint_list_remove(head, STAILQ_FIRST(head))

#endif
