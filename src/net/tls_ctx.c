/*
 * From settings to a context of OpenSSL.
 *
 * Everything that can be wrong is found here, in steps, one for each group of
 * settings; the first that fails says which setting it is, and which file, and
 * what would be right. Files are read once (net/tls_pem.h).
 *
 * What a context was made of is kept as one hash. A context for clients marks
 * its sessions with it too, so that a session can only be resumed where the
 * same certificates are trusted and demanded: whoever was taken out of the
 * trusted ones does not come in by a session from before. (The keys of tickets
 * are a context's own, so this holds already; but then it does not depend on
 * that.)
 *
 * The process can be named by its certificate only, so ciphers without one are
 * never used, whatever the setting says.
 */
#include "net/tls_ctx.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/str.h"
#include "net/tls_pem.h"
#include "net/tls_session.h"

#define TLS_CTX_MAGIC       0x544c5358U

/* What a client's certificates may take, all of a chain, before it has logged in. */
#define TLS_CTX_CHAIN_MAX   (64 * 1024)

/* As many names of trusted authorities are told to a client; beyond that it must know what to show. */
#define TLS_CTX_NAMES_MAX   32

/* Targets whose sessions are kept at most, whatever is asked for. */
#define TLS_CTX_TARGETS_MAX 4096

/* As ALPN has it (RFC 7301): each name after its length. */
static const uint8_t tls_ctx_alpn[] = "\x0apostgresql";
#define TLS_CTX_ALPN_LEN  (sizeof(tls_ctx_alpn) - 1)

#define TLS_CTX_PRINT_LEN 32

struct tls_ctx {
	uint32_t magic;
	atomic_uint refs;
	SSL_CTX *ssl;
	struct tls_tickets *tickets;      /* facing clients, or NULL */
	struct tls_store *store;          /* to servers, or NULL */
	uint8_t key[TLS_CTX_PRINT_LEN];   /* hash of the file with our key */
	uint8_t files[TLS_CTX_PRINT_LEN]; /* hash of all files, that one by its hash */
	uint8_t print[TLS_CTX_PRINT_LEN]; /* hash of all that it was made of, the files by theirs */
};

/* A context in the making. */
struct tls_build {
	const struct tls_setup *setup;
	struct tls_ctx *ctx;
	SSL_CTX *ssl; /* of ctx */
	struct tls_pem key;
	struct tls_pem cert;
	struct tls_pem ca;
	bool keeps_key; /* the key need not be read when we may not any more */
	char *err;
	size_t err_size;
};

/* Puts the setting, as tls_x or tls13_x, in front of what is wrong. */
static int PRINTF_LIKE(4, 5) tls_build_fail(struct tls_build *b, int err, const char *setting, const char *fmt, ...)
{
	size_t n = str_format(b->err, b->err_size, "%s_%s: ", b->setup->faces_clients ? "client" : "server", setting);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->err + n, b->err_size - n, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return err;
}

/* ---- protocols ---- */

#define TLS_V1_0     (1u << 0)
#define TLS_V1_1     (1u << 1)
#define TLS_V1_2     (1u << 2)
#define TLS_V1_3     (1u << 3)
#define TLS_V_ALL    (TLS_V1_0 | TLS_V1_1 | TLS_V1_2 | TLS_V1_3)
#define TLS_V_SECURE (TLS_V1_2 | TLS_V1_3)

static const struct {
	unsigned bit;
	int version;
	uint64_t off;
} tls_versions[] = {
	{ TLS_V1_0, TLS1_VERSION, SSL_OP_NO_TLSv1 },
	{ TLS_V1_1, TLS1_1_VERSION, SSL_OP_NO_TLSv1_1 },
	{ TLS_V1_2, TLS1_2_VERSION, SSL_OP_NO_TLSv1_2 },
	{ TLS_V1_3, TLS1_3_VERSION, SSL_OP_NO_TLSv1_3 },
};

/* What a word of the list stands for; 0: nothing. */
static unsigned tls_build_versions_of(struct slice word)
{
	static const struct {
		const char *name;
		unsigned bits;
	} words[] = {
		{ "tlsv1.0", TLS_V1_0 },    { "tlsv1.1", TLS_V1_1 },     { "tlsv1.2", TLS_V1_2 },
		{ "tlsv1.3", TLS_V1_3 },    { "tlsv1", TLS_V_ALL },      { "all", TLS_V_ALL },
		{ "secure", TLS_V_SECURE }, { "default", TLS_V_SECURE },
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (slice_ieq(word, slice_of(words[i].name)))
			return words[i].bits;
	}
	return 0;
}

/* The versions of a list: each word adds, or with ! takes away; one that begins by taking away begins with all. */
static int tls_build_parse_versions(struct tls_build *b, const char *list, unsigned *versions)
{
	const char *at = list;

	*versions = 0;
	for (;;) {
		size_t n = strcspn(at, ",:");
		struct slice word = slice_trim(slice_make(at, n));
		bool is_off = word.n > 0 && word.p[0] == '!';
		unsigned bits = tls_build_versions_of(is_off ? slice_trim(slice_make(word.p + 1, word.n - 1)) : word);

		if (bits == 0)
			return tls_build_fail(b, -E_SYNTAX, "tls_protocols",
					      "\"%.*s\" is no protocol; known are tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, "
					      "all and secure, and ! in front takes one away",
					      (int)word.n, word.p);
		if (is_off && *versions == 0)
			*versions = TLS_V_ALL;
		*versions = is_off ? *versions & ~bits : *versions | bits;
		if (at[n] == '\0')
			return 0;
		at += n + 1;
	}
}

static int tls_build_protocols(struct tls_build *b)
{
	unsigned versions = TLS_V_SECURE;
	int least = 0;
	int most = 0;
	int err;

	if (str_is_set(b->setup->protocols)) {
		err = tls_build_parse_versions(b, b->setup->protocols, &versions);
		if (err != 0)
			return err;
	}
	if (versions == 0)
		return tls_build_fail(b, -E_SYNTAX, "tls_protocols",
				      "\"%s\" leaves no protocol; \"secure\" means tlsv1.2 and tlsv1.3",
				      b->setup->protocols);
	for (size_t i = 0; i < ARRAY_LEN(tls_versions); i++) {
		if ((versions & tls_versions[i].bit) == 0) {
			SSL_CTX_set_options(b->ssl, tls_versions[i].off);
			continue;
		}
		most = tls_versions[i].version;
		if (least == 0)
			least = most;
	}
	if (SSL_CTX_set_min_proto_version(b->ssl, least) != 1 || SSL_CTX_set_max_proto_version(b->ssl, most) != 1)
		return tls_build_fail(b, -E_SYNTAX, "tls_protocols", "\"%s\": OpenSSL does not have them",
				      b->setup->protocols);
	return 0;
}

/* ---- ciphers, groups ---- */

/* The names under which PgBouncer's users know what OpenSSL's own choice is. */
static bool tls_ctx_is_default(const char *ciphers)
{
	static const char *const names[] = { "default", "secure", "normal", "fast" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcasecmp(ciphers, names[i]) == 0)
			return true;
	}
	return false;
}

/* The list up to TLS 1.2. What OpenSSL, or the system's configuration of it, has chosen is left as it is. */
static int tls_build_cipher_list(struct tls_build *b)
{
	const char *ciphers = b->setup->ciphers;
	const char *curve = b->setup->ecdhcurve;
	bool has_no_curve = b->setup->faces_clients && str_is_set(curve) && strcasecmp(curve, "none") == 0;
	bool is_default = !str_is_set(ciphers) || tls_ctx_is_default(ciphers);
	char list[4096];
	char why[256];

	if (is_default && !has_no_curve)
		return 0;
	if (is_default)
		ciphers = "DEFAULT";
	if (strlen(ciphers) > sizeof(list) - 64)
		return tls_build_fail(b, -E_SYNTAX, "tls_ciphers", "longer than %zu characters", sizeof(list) - 64);
	str_format(list, sizeof(list), "%s:!aNULL:!eNULL:!PSK:!SRP%s", ciphers, has_no_curve ? ":!kECDHE" : "");
	if (SSL_CTX_set_cipher_list(b->ssl, list) == 1)
		return 0;
	tls_pem_why(why, sizeof(why));
	return tls_build_fail(b, -E_SYNTAX, "tls_ciphers",
			      "\"%s\": %s; \"openssl ciphers -v\" shows what a list comes to", ciphers, why);
}

static int tls_build_ciphers(struct tls_build *b)
{
	const char *suites = b->setup->ciphers13;
	char why[256];
	int err = tls_build_cipher_list(b);

	if (err != 0 || !str_is_set(suites) || SSL_CTX_set_ciphersuites(b->ssl, suites) == 1)
		return err;
	tls_pem_why(why, sizeof(why));
	return tls_build_fail(b, -E_SYNTAX, "tls13_ciphers",
			      "\"%s\": %s; suites of TLS 1.3 have names such as TLS_AES_256_GCM_SHA384, "
			      "separated by colons",
			      suites, why);
}

static int tls_build_key_exchange(struct tls_build *b)
{
	const char *dh = b->setup->dheparams;
	const char *curve = b->setup->ecdhcurve;

	if (!b->setup->faces_clients)
		return 0;
	if (str_is_set(dh) && strcasecmp(dh, "auto") != 0 && strcasecmp(dh, "none") != 0)
		return tls_build_fail(b, -E_SYNTAX, "tls_dheparams", "\"%s\": it is auto or none", dh);
	if (SSL_CTX_set_dh_auto(b->ssl, !str_is_set(dh) || strcasecmp(dh, "auto") == 0) != 1)
		return tls_build_fail(b, -E_NOMEM, "tls_dheparams", "OpenSSL refuses it");
	if (!str_is_set(curve) || strcasecmp(curve, "auto") == 0 || strcasecmp(curve, "none") == 0)
		return 0;
	if (SSL_CTX_set1_groups_list(b->ssl, curve) != 1)
		return tls_build_fail(b, -E_SYNTAX, "tls_ecdhcurve",
				      "\"%s\" is no curve; it is auto, none or a name such as X25519 or prime256v1",
				      curve);
	return 0;
}

/* ---- our certificate ---- */

/* Uses the first certificate as ours and the others as the chain below it. */
static int tls_build_use_certs(struct tls_build *b, STACK_OF(X509) * certs)
{
	char why[256];

	if (SSL_CTX_use_certificate(b->ssl, sk_X509_value(certs, 0)) != 1) {
		tls_pem_why(why, sizeof(why));
		return tls_build_fail(b, -E_SYNTAX, "tls_cert_file", "the certificate in \"%s\" cannot be used: %s",
				      b->setup->cert_file, why);
	}
	for (int i = 1; i < sk_X509_num(certs); i++) {
		if (SSL_CTX_add1_chain_cert(b->ssl, sk_X509_value(certs, i)) == 1)
			continue;
		tls_pem_why(why, sizeof(why));
		return tls_build_fail(b, -E_SYNTAX, "tls_cert_file", "certificate %d in \"%s\" cannot be used: %s",
				      i + 1, b->setup->cert_file, why);
	}
	return 0;
}

static int tls_build_use_key(struct tls_build *b, EVP_PKEY *key)
{
	char why[256];

	if (X509_check_private_key(SSL_CTX_get0_certificate(b->ssl), key) != 1)
		return tls_build_fail(b, -E_SYNTAX, "tls_key_file",
				      "the key in \"%s\" does not belong to the first certificate in \"%s\"; the "
				      "pooler's own certificate comes first there, those of authorities follow",
				      b->setup->key_file, b->setup->cert_file);
	if (SSL_CTX_use_PrivateKey(b->ssl, key) == 1)
		return 0;
	tls_pem_why(why, sizeof(why));
	return tls_build_fail(b, -E_SYNTAX, "tls_key_file", "the key in \"%s\" cannot be used: %s", b->setup->key_file,
			      why);
}

static void tls_build_warn(const struct tls_build *b)
{
	const char *side = b->setup->faces_clients ? "client" : "server";
	const X509 *cert = SSL_CTX_get0_certificate(b->ssl);

	if (b->key.is_public)
		log_warning("%s_tls_key_file: everybody on this machine may read the key in \"%s\"", side,
			    b->setup->key_file);
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0)
		log_warning("%s_tls_cert_file: the certificate in \"%s\" has expired", side, b->setup->cert_file);
	else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
		log_warning("%s_tls_cert_file: the certificate in \"%s\" is not valid yet", side, b->setup->cert_file);
}

static int tls_build_keypair(struct tls_build *b)
{
	STACK_OF(X509) * certs;
	EVP_PKEY *key = NULL;
	char why[256];
	int err;

	if (b->cert.text == NULL)
		return 0;
	certs = tls_pem_certs(&b->cert, why, sizeof(why));
	if (certs == NULL)
		return tls_build_fail(b, -E_SYNTAX, "tls_cert_file", "\"%s\": %s", b->setup->cert_file, why);
	err = tls_build_use_certs(b, certs);
	if (err == 0) {
		key = tls_pem_key(&b->key, why, sizeof(why));
		err = key == NULL ? tls_build_fail(b, -E_SYNTAX, "tls_key_file", "\"%s\": %s", b->setup->key_file, why)
				  : tls_build_use_key(b, key);
	}
	if (err == 0)
		tls_build_warn(b);
	EVP_PKEY_free(key);
	sk_X509_pop_free(certs, X509_free);
	return err;
}

/* ---- whom we trust ---- */

static int tls_build_trust(struct tls_build *b, STACK_OF(X509) * certs)
{
	X509_STORE *store = SSL_CTX_get_cert_store(b->ssl);
	bool tell = b->setup->faces_clients && sk_X509_num(certs) <= TLS_CTX_NAMES_MAX;
	char why[256];

	for (int i = 0; i < sk_X509_num(certs); i++) {
		X509 *cert = sk_X509_value(certs, i);

		if (X509_STORE_add_cert(store, cert) == 1 && (!tell || SSL_CTX_add_client_CA(b->ssl, cert) == 1))
			continue;
		tls_pem_why(why, sizeof(why));
		return tls_build_fail(b, -E_SYNTAX, "tls_ca_file", "certificate %d in \"%s\" cannot be used: %s", i + 1,
				      b->setup->ca_file, why);
	}
	return 0;
}

static int tls_build_verify(struct tls_build *b)
{
	STACK_OF(X509) * certs;
	int mode = SSL_VERIFY_PEER;
	char why[256];
	int err;

	if (b->setup->verify == TLS_VERIFY_NONE) {
		SSL_CTX_set_verify(b->ssl, SSL_VERIFY_NONE, NULL);
		return 0;
	}
	if (b->setup->faces_clients && b->setup->verify == TLS_VERIFY_REQUIRED)
		mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	SSL_CTX_set_verify(b->ssl, mode, NULL);
	if (b->ca.text == NULL) {
		if (SSL_CTX_set_default_verify_paths(b->ssl) == 1)
			return 0;
		tls_pem_why(why, sizeof(why));
		return tls_build_fail(b, -E_SYS, "tls_ca_file", "the certificates of the system: %s", why);
	}
	certs = tls_pem_certs(&b->ca, why, sizeof(why));
	if (certs == NULL)
		return tls_build_fail(b, -E_SYNTAX, "tls_ca_file", "\"%s\": %s", b->setup->ca_file, why);
	err = tls_build_trust(b, certs);
	sk_X509_pop_free(certs, X509_free);
	return err;
}

/* ---- what does not depend on settings; resumption ---- */

/* A client that offers names of protocols must offer ours: else it wants to talk to somebody else. */
static int tls_ctx_choose_protocol_cb(SSL *ssl UNUSED, const unsigned char **chosen, unsigned char *chosen_len,
				      const unsigned char *offered, unsigned offered_len, void *arg UNUSED)
{
	unsigned char *match;

	if (SSL_select_next_proto(&match, chosen_len, tls_ctx_alpn, TLS_CTX_ALPN_LEN, offered, offered_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*chosen = match;
	return SSL_TLSEXT_ERR_OK;
}

/*
 * A certificate that comes without the chain below it gets one from the
 * authorities that are trusted, as far as they have it. Left to itself, OpenSSL
 * would look for it in each handshake, and read the directory of the system's
 * certificates each time that there is none.
 */
static int tls_build_chain(struct tls_build *b)
{
	STACK_OF(X509) *chain = NULL;

	if (SSL_CTX_get0_certificate(b->ssl) == NULL)
		return 0;
	if (SSL_CTX_get0_chain_certs(b->ssl, &chain) == 1 && sk_X509_num(chain) > 0)
		return 0;
	(void)SSL_CTX_build_cert_chain(b->ssl, SSL_BUILD_CHAIN_FLAG_NO_ROOT | SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR |
						       SSL_BUILD_CHAIN_FLAG_CLEAR_ERROR);
	return 0;
}

static int tls_build_basics(struct tls_build *b)
{
	SSL_CTX_set_mode(b->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(b->ssl, 1);
	SSL_CTX_set_options(b->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CLEANSE_PLAINTEXT);
	SSL_CTX_set_max_cert_list(b->ssl, TLS_CTX_CHAIN_MAX);
	if (b->setup->faces_clients) {
		SSL_CTX_set_options(b->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
		SSL_CTX_set_alpn_select_cb(b->ssl, tls_ctx_choose_protocol_cb, NULL);
		return 0;
	}
	if (SSL_CTX_set_alpn_protos(b->ssl, tls_ctx_alpn, TLS_CTX_ALPN_LEN) != 0)
		return tls_build_fail(b, -E_NOMEM, "tls_sslmode", "out of memory");
	return 0;
}

static int tls_build_sessions(struct tls_build *b)
{
	unsigned n = b->setup->session_cache;
	struct tls_ctx *ctx = b->ctx;

	if (SSL_CTX_set_session_id_context(b->ssl, ctx->print, sizeof(ctx->print)) != 1)
		return tls_build_fail(b, -E_NOMEM, "tls_session_cache", "OpenSSL refuses it");
	SSL_CTX_set_session_cache_mode(b->ssl, SSL_SESS_CACHE_OFF);
	if (n == 0) {
		SSL_CTX_set_options(b->ssl, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(b->ssl, 0);
	} else if (b->setup->faces_clients) {
		ctx->tickets = tls_tickets_new();
		tls_tickets_install(ctx->tickets, b->ssl);
		SSL_CTX_set_session_cache_mode(b->ssl, SSL_SESS_CACHE_SERVER);
		SSL_CTX_sess_set_cache_size(b->ssl, n);
	} else {
		ctx->store = tls_store_new(n < TLS_CTX_TARGETS_MAX ? n : TLS_CTX_TARGETS_MAX);
		tls_store_install(ctx->store, b->ssl);
	}
	return 0;
}

/* ---- files, and the hash of everything ---- */

static int tls_build_read(struct tls_build *b, struct tls_pem *pem, const char *setting, const char *path)
{
	char why[256];
	int err;

	if (!str_is_set(path))
		return 0;
	err = tls_pem_read(pem, path, why, sizeof(why));
	if (err == 0)
		return 0;
	return tls_build_fail(b, err, setting, "could not read \"%s\": %s", path, why);
}

static int tls_build_read_files(struct tls_build *b)
{
	const struct tls_setup *setup = b->setup;
	bool has_key = str_is_set(setup->key_file);
	bool has_cert = str_is_set(setup->cert_file);
	int err;

	if (setup->faces_clients && !has_key && !has_cert)
		return tls_build_fail(b, -E_SYNTAX, "tls_key_file",
				      "not set; TLS to clients needs client_tls_key_file and client_tls_cert_file");
	if (has_cert && !has_key)
		return tls_build_fail(b, -E_SYNTAX, "tls_key_file", "not set; it must name the key of \"%s\"",
				      setup->cert_file);
	if (has_key && !has_cert)
		return tls_build_fail(b, -E_SYNTAX, "tls_cert_file", "not set; it must name the certificate of \"%s\"",
				      setup->key_file);
	err = tls_build_read(b, &b->key, "tls_key_file", setup->key_file);
	if (err != 0 && b->keeps_key && b->key.is_denied)
		err = 0;
	if (err == 0)
		err = tls_build_read(b, &b->cert, "tls_cert_file", setup->cert_file);
	if (err == 0 && setup->verify != TLS_VERIFY_NONE)
		err = tls_build_read(b, &b->ca, "tls_ca_file", setup->ca_file);
	return err;
}

/* Some parts in one hash, each after its length, so that no two lists of parts hash alike. */
static void tls_print(uint8_t print[TLS_CTX_PRINT_LEN], const struct slice *parts, size_t count)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

	for (size_t i = 0; i < count; i++) {
		uint64_t head = parts[i].n;

		ok = ok && EVP_DigestUpdate(md, &head, sizeof(head)) == 1 &&
		     (head == 0 || EVP_DigestUpdate(md, parts[i].p, parts[i].n) == 1);
	}
	ok = ok && EVP_DigestFinal_ex(md, print, NULL) == 1;
	EVP_MD_CTX_free(md);
	ASSERT(ok);
}

static void tls_build_print_key(const struct tls_build *b, uint8_t print[TLS_CTX_PRINT_LEN])
{
	struct slice part = slice_make(b->key.text, b->key.size);

	tls_print(print, &part, 1);
}

/* Of the files as they were read; `key` is that of the key. */
static void tls_build_print_files(const struct tls_build *b, const uint8_t key[TLS_CTX_PRINT_LEN],
				  uint8_t print[TLS_CTX_PRINT_LEN])
{
	const struct slice parts[] = {
		slice_make(key, TLS_CTX_PRINT_LEN),
		slice_make(b->cert.text, b->cert.size),
		slice_make(b->ca.text, b->ca.size),
	};

	tls_print(print, parts, ARRAY_LEN(parts));
}

/* Of everything; `files` is that of the files. */
static void tls_build_print(const struct tls_build *b, const uint8_t files[TLS_CTX_PRINT_LEN],
			    uint8_t print[TLS_CTX_PRINT_LEN])
{
	const struct tls_setup *s = b->setup;
	const unsigned numbers[] = { s->faces_clients, s->verify, s->session_cache };
	const struct slice parts[] = {
		slice_make(files, TLS_CTX_PRINT_LEN),
		slice_make(numbers, sizeof(numbers)),
		slice_of(s->protocols),
		slice_of(s->ciphers),
		slice_of(s->ciphers13),
		slice_of(s->dheparams),
		slice_of(s->ecdhcurve),
	};

	tls_print(print, parts, ARRAY_LEN(parts));
}

static void tls_build_fini(struct tls_build *b)
{
	tls_pem_free(&b->key);
	tls_pem_free(&b->cert);
	tls_pem_free(&b->ca);
}

/* ---- the public part ---- */

static int tls_build_all(struct tls_build *b)
{
	static int (*const steps[])(struct tls_build * b) = {
		tls_build_basics,  tls_build_protocols, tls_build_ciphers, tls_build_key_exchange,
		tls_build_keypair, tls_build_verify,    tls_build_chain,   tls_build_sessions,
	};
	int err;

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		err = steps[i](b);
		if (err != 0)
			return err;
	}
	return 0;
}

int tls_ctx_new(const struct tls_setup *setup, struct tls_ctx **out, char *err, size_t err_size)
{
	struct tls_build b = { .setup = setup, .err = err, .err_size = err_size };
	int rc;

	ASSERT(setup->faces_clients ? setup->verify != TLS_VERIFY_NONE : setup->verify != TLS_VERIFY_OFFERED);
	*out = NULL;
	ERR_clear_error();
	rc = tls_build_read_files(&b);
	if (rc == 0) {
		b.ctx = xcalloc(1, sizeof(*b.ctx));
		b.ctx->magic = TLS_CTX_MAGIC;
		atomic_init(&b.ctx->refs, 1);
		tls_build_print_key(&b, b.ctx->key);
		tls_build_print_files(&b, b.ctx->key, b.ctx->files);
		tls_build_print(&b, b.ctx->files, b.ctx->print);
		b.ssl = SSL_CTX_new(setup->faces_clients ? TLS_server_method() : TLS_client_method());
		b.ctx->ssl = b.ssl;
		rc = b.ssl == NULL ? tls_build_fail(&b, -E_NOMEM, "tls_sslmode", "OpenSSL cannot be set up")
				   : tls_build_all(&b);
	}
	if (rc == 0)
		*out = b.ctx;
	else
		tls_ctx_release(&b.ctx);
	tls_build_fini(&b);
	ERR_clear_error();
	return rc;
}

bool tls_ctx_is_current(const struct tls_ctx *ctx, const struct tls_setup *setup)
{
	char err[TLS_CTX_ERR_MAX];
	struct tls_build b = { .setup = setup, .err = err, .err_size = sizeof(err) };
	uint8_t print[TLS_CTX_PRINT_LEN];
	uint8_t files[TLS_CTX_PRINT_LEN];
	uint8_t key[TLS_CTX_PRINT_LEN];
	bool is_current;

	CHECK_OBJ(ctx, TLS_CTX_MAGIC);
	b.keeps_key = true;
	is_current = tls_build_read_files(&b) == 0;
	if (is_current) {
		if (b.key.is_denied)
			memcpy(key, ctx->key, sizeof(key));
		else
			tls_build_print_key(&b, key);
		tls_build_print_files(&b, key, files);
		tls_build_print(&b, files, print);
		is_current = memcmp(print, ctx->print, sizeof(print)) == 0;
	}
	tls_build_fini(&b);
	return is_current;
}

bool tls_ctx_has_other_files(const struct tls_ctx *a, const struct tls_ctx *b)
{
	CHECK_OBJ(a, TLS_CTX_MAGIC);
	CHECK_OBJ(b, TLS_CTX_MAGIC);
	return memcmp(a->files, b->files, sizeof(a->files)) != 0;
}

struct tls_ctx *tls_ctx_hold(struct tls_ctx *ctx)
{
	CHECK_OBJ(ctx, TLS_CTX_MAGIC);
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

void tls_ctx_release(struct tls_ctx **ref)
{
	struct tls_ctx *ctx = *ref;

	*ref = NULL;
	if (ctx == NULL)
		return;
	CHECK_OBJ(ctx, TLS_CTX_MAGIC);
	if (atomic_fetch_sub(&ctx->refs, 1) > 1)
		return;
	ctx->magic = 0;
	SSL_CTX_free(ctx->ssl);
	tls_tickets_free(&ctx->tickets);
	tls_store_free(&ctx->store);
	free(ctx);
}

struct ssl_ctx_st *tls_ctx_ssl(const struct tls_ctx *ctx)
{
	CHECK_OBJ(ctx, TLS_CTX_MAGIC);
	return ctx->ssl;
}

void tls_ctx_resume(const struct tls_ctx *ctx, struct ssl_st *ssl, const char *target)
{
	CHECK_OBJ(ctx, TLS_CTX_MAGIC);
	if (ctx->store != NULL && target != NULL)
		tls_store_resume(ctx->store, ssl, target);
}
