/*
 * Resumption: the keys that seal the tickets for clients, and the sessions
 * agreed with servers. Both belong to one context and end with it, so that
 * nothing survives a change of the settings or of the trusted certificates.
 */
#ifndef PGSLUICE_NET_TLS_SESSION_H
#define PGSLUICE_NET_TLS_SESSION_H

#include <openssl/ssl.h>

#include "core/base.h"
#include "core/err.h"

/* How long a session may be resumed, and how long one key seals tickets, in seconds. */
#define TLS_SESSION_LIFE_S  3600

/* ---- towards clients ---- */

#define TLS_TICKET_NAME_LEN 16

struct tls_ticket_key {
	uint8_t name[TLS_TICKET_NAME_LEN]; /* in the clear at the start of each ticket */
	uint8_t cipher[32];
	uint8_t mac[32];
	uint64_t born_us; /* 0: no key */
};

struct tls_tickets;

/* Without keys, which are made when they are needed. For the contexts of all loops. */
struct tls_tickets *tls_tickets_new(void) MUSTCHECK;
/* Wipes the keys; nulls the pointer. NULL inside is fine. */
void tls_tickets_free(struct tls_tickets **tickets);

/* Has a context hand out and accept tickets under these keys, which must outlive it. */
void tls_tickets_install(struct tls_tickets *tickets, SSL_CTX *ssl);

/* A copy, to be wiped, of the key that seals at this time; a new one each TLS_SESSION_LIFE_S. 0 or -E_SYS. */
int tls_tickets_seal(struct tls_tickets *tickets, uint64_t now_us, struct tls_ticket_key *key) MUSTCHECK;

/* A copy, to be wiped, of the key of that name while it is valid; else -E_NOENT. */
int tls_tickets_open(struct tls_tickets *tickets, uint64_t now_us, const uint8_t name[TLS_TICKET_NAME_LEN],
		     struct tls_ticket_key *key) MUSTCHECK;

/* ---- towards servers ---- */

struct tls_store;

/* Room for one session for each of `targets` at most. */
struct tls_store *tls_store_new(unsigned targets) MUSTCHECK;
/* Wipes the sessions; nulls the pointer. NULL inside is fine. */
void tls_store_free(struct tls_store **store);

/* Has a context put sessions into the store, which must outlive it. */
void tls_store_install(struct tls_store *store, SSL_CTX *ssl);

/* See tls_ctx_resume(). */
void tls_store_resume(struct tls_store *store, SSL *ssl, const char *target);

#endif
