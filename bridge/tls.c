/* Makes an SSL_CTX and keeps what its handshakes said.  The only file here that
 * knows OpenSSL.
 *
 * The record of a failure hangs on the SSL_CTX and dies with it: a connection
 * that is still being started in a thread may outlive the struct tls. */
#include "bridge/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define NAME_BYTES 200
#define WARN_DAYS 30

/* First refusal of the peer's chain, last alert of the peer. */
struct record {
	int error; /* X509_V_ERR_* */
	int depth;
	int alert; /* RFC 8446, 6; -1: none */
	bool is_established;
	char subject[NAME_BYTES];
	char issuer[NAME_BYTES];
	char names[NAME_BYTES]; /* whom the certificate is for */
	char begin[32];
	char end[32];
};

struct tls {
	SSL_CTX *ctx;
	struct record *record; /* lives as long as ctx */
	char *host;
	char *ca;
	char *certificate;
	char own_subject[NAME_BYTES];
	char own_end[32];
	char warning[512];
};

static void print_time(const ASN1_TIME *t, char *ret, size_t size)
{
	struct tm tm;

	if (!ASN1_TIME_to_tm(t, &tm) ||
		!strftime(ret, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(ret, size, "an unreadable date");
}

/* Not the time of day: the same trouble shall read the same at the next try. */
static void print_today(char *ret, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;

	if (!gmtime_r(&now, &tm) || !strftime(ret, size, "%Y-%m-%d", &tm))
		snprintf(ret, size, "unknown");
}

static void print_name(const X509_NAME *name, char *ret, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int n = 0;

	if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
		n = BIO_read(bio, ret, (int)size - 1);
	ret[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
}

/* The subject's alternative names, "DNS:a, DNS:b". */
static void print_names(X509 *cert, char *ret, size_t size)
{
	GENERAL_NAMES *names =
		X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	BIO *bio = BIO_new(BIO_s_mem());
	int n = 0;
	int i;

	for (i = 0; bio && i < sk_GENERAL_NAME_num(names); i++) {
		if (i)
			BIO_puts(bio, ", ");
		GENERAL_NAME_print(bio, sk_GENERAL_NAME_value(names, i));
	}
	if (bio)
		n = BIO_read(bio, ret, (int)size - 1);
	ret[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
	GENERAL_NAMES_free(names);
}

/* ---- the record ---- */

static void free_record(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
	long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)index;
	(void)argl;
	(void)argp;
	free(ptr);
}

static int record_index(void)
{
	static int index = -1;

	if (index < 0)
		index = SSL_CTX_get_ex_new_index(
			0, NULL, NULL, NULL, free_record);
	return index;
}

static struct record *record_of(const SSL *ssl)
{
	return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), record_index());
}

/* OpenSSL asks for each certificate of the chain; the answer is its own. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(
		store, SSL_get_ex_data_X509_STORE_CTX_idx());
	X509 *cert = X509_STORE_CTX_get_current_cert(store);
	struct record *r = ssl ? record_of(ssl) : NULL;

	if (ok || !r || r->error)
		return ok;
	r->error = X509_STORE_CTX_get_error(store);
	r->depth = X509_STORE_CTX_get_error_depth(store);
	if (!cert)
		return ok;
	print_name(X509_get_subject_name(cert), r->subject, sizeof(r->subject));
	print_name(X509_get_issuer_name(cert), r->issuer, sizeof(r->issuer));
	print_names(cert, r->names, sizeof(r->names));
	print_time(X509_get0_notBefore(cert), r->begin, sizeof(r->begin));
	print_time(X509_get0_notAfter(cert), r->end, sizeof(r->end));
	return ok;
}

static void on_info(const SSL *ssl, int where, int ret)
{
	struct record *r = record_of(ssl);

	/* 0 is close_notify, an orderly end. */
	if (r && (where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT &&
		(ret & 0xff) != 0)
		r->alert = ret & 0xff;
	if (r && (where & SSL_CB_HANDSHAKE_DONE))
		r->is_established = true;
}

/* ---- making the context ---- */

/* 0, or why path cannot be read. */
static int check_file(
	const char *what, const char *path, char *reason, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int err = errno;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	snprintf(reason, size, "%s '%s' cannot be read: %s; %s", what, path,
		strerror(err),
		err == EACCES ? "let the user gatewayd read it: chown "
				"root:gatewayd, chmod 0640"
			      : "put it there, or correct the configuration");
	return err == ENOENT || err == EACCES ? -err : -EIO;
}

static int ssl_failed(const char *what, const char *path, const char *remedy,
	char *reason, size_t size)
{
	unsigned long e = ERR_get_error();

	snprintf(reason, size, "%s '%s': %s; %s", what, path,
		e ? ERR_reason_error_string(e) : "no PEM data found", remedy);
	ERR_clear_error();
	return -EINVAL;
}

/* Never ask on a terminal. */
static int no_password(char *buf, int size, int rw, void *userdata)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)userdata;
	return -1;
}

static int load_files(
	SSL_CTX *ctx, const struct tls_options *o, char *reason, size_t size)
{
	int r = check_file("uplink.ca", o->ca, reason, size);

	if (r == 0)
		r = check_file(
			"uplink.certificate", o->certificate, reason, size);
	if (r == 0)
		r = check_file("uplink.key", o->key, reason, size);
	if (r < 0)
		return r;
	ERR_clear_error();
	if (SSL_CTX_load_verify_locations(ctx, o->ca, NULL) != 1)
		return ssl_failed("uplink.ca", o->ca,
			"it must hold the cloud's root certificates as PEM",
			reason, size);
	if (SSL_CTX_use_certificate_chain_file(ctx, o->certificate) != 1)
		return ssl_failed("uplink.certificate", o->certificate,
			"it must hold this gateway's certificate as PEM",
			reason, size);
	SSL_CTX_set_default_passwd_cb(ctx, no_password);
	if (SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) == 1 &&
		SSL_CTX_check_private_key(ctx) == 1)
		return 0;
	return ssl_failed("uplink.key", o->key,
		"it must be the unencrypted PEM key that belongs to "
		"uplink.certificate",
		reason, size);
}

/* The peer's identity, and when to judge it. */
static int set_expectations(SSL_CTX *ctx, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
	const X509 *own = SSL_CTX_get0_certificate(ctx);
	unsigned char address[16];
	time_t now = time(NULL);
	struct tm tm;
	time_t begin;
	int ok;

	if (inet_pton(AF_INET, host, address) == 1 ||
		inet_pton(AF_INET6, host, address) == 1)
		ok = X509_VERIFY_PARAM_set1_ip_asc(param, host);
	else
		ok = X509_VERIFY_PARAM_set1_host(param, host, 0);
	if (!ok ||
		!X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER))
		return -ENOMEM;
	X509_VERIFY_PARAM_set_hostflags(
		param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (own && ASN1_TIME_to_tm(X509_get0_notBefore(own), &tm)) {
		begin = timegm(&tm);
		X509_VERIFY_PARAM_set_time(param, now > begin ? now : begin);
	}
	return 0;
}

static int set_policy(SSL_CTX *ctx)
{
	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ||
		!SSL_CTX_set_cipher_list(
			ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"))
		return -EINVAL;
	SSL_CTX_set_options(
		ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	/* libmosquitto hands the rest of a packet over from the same place,
	 * but may have moved on in its list. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
	SSL_CTX_set_info_callback(ctx, on_info);
	return 0;
}

static void look_at_own(struct tls *tls, const struct tls_options *o)
{
	X509 *own = SSL_CTX_get0_certificate(tls->ctx);
	char begin[32];
	char today[32];
	struct stat st;
	int days = 0;
	int seconds = 0;

	if (!own)
		return;
	print_name(X509_get_subject_name(own), tls->own_subject,
		sizeof(tls->own_subject));
	print_time(X509_get0_notAfter(own), tls->own_end, sizeof(tls->own_end));
	print_time(X509_get0_notBefore(own), begin, sizeof(begin));
	print_today(today, sizeof(today));
	if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
		snprintf(tls->warning, sizeof(tls->warning),
			"our certificate '%s' is not yet valid: it begins at "
			"%s and this machine's clock says %s; set the clock",
			o->certificate, begin, today);
	else if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0)
		snprintf(tls->warning, sizeof(tls->warning),
			"our certificate '%s' has expired at %s (the clock "
			"says %s): the cloud will refuse it; get a new one",
			o->certificate, tls->own_end, today);
	else if (ASN1_TIME_diff(
			 &days, &seconds, NULL, X509_get0_notAfter(own)) &&
		days < WARN_DAYS)
		snprintf(tls->warning, sizeof(tls->warning),
			"our certificate '%s' expires in %d days, at %s: get a "
			"new one",
			o->certificate, days, tls->own_end);
	else if (stat(o->key, &st) == 0 && (st.st_mode & 0007))
		snprintf(tls->warning, sizeof(tls->warning),
			"the key '%s' can be read by everybody on this machine:"
			" chown root:gatewayd, chmod 0640",
			o->key);
}

static int attach_record(struct tls *tls)
{
	struct record *record = calloc(1, sizeof(*record));

	if (!record)
		return -ENOMEM;
	record->alert = -1;
	if (record_index() < 0 ||
		!SSL_CTX_set_ex_data(tls->ctx, record_index(), record)) {
		free(record);
		return -ENOMEM;
	}
	tls->record = record;
	return 0;
}

int tls_new(const struct tls_options *o, char *ret_reason, size_t size,
	struct tls **ret_tls)
{
	SCOPED(tls_freep) struct tls *tls = calloc(1, sizeof(*tls));
	int r;

	snprintf(ret_reason, size, "out of memory");
	if (!tls)
		return -ENOMEM;
	tls->host = strdup(o->host);
	tls->ca = strdup(o->ca);
	tls->certificate = strdup(o->certificate);
	tls->ctx = SSL_CTX_new(TLS_client_method());
	if (!tls->host || !tls->ca || !tls->certificate || !tls->ctx)
		return -ENOMEM;
	r = attach_record(tls);
	if (r == 0)
		r = set_policy(tls->ctx);
	if (r == 0)
		r = load_files(tls->ctx, o, ret_reason, size);
	if (r == 0)
		r = set_expectations(tls->ctx, o->host);
	if (r < 0)
		return r;
	look_at_own(tls, o);
	*ret_tls = TAKE(tls);
	return 0;
}

struct tls *tls_free(struct tls *tls)
{
	if (!tls)
		return NULL;
	SSL_CTX_free(tls->ctx); /* and the record, with the last user */
	free(tls->host);
	free(tls->ca);
	free(tls->certificate);
	free(tls);
	return NULL;
}

struct ssl_ctx_st *tls_ctx(struct tls *tls)
{
	return tls->ctx;
}

const char *tls_warning(const struct tls *tls)
{
	return tls->warning;
}

bool tls_is_established(const struct tls *tls)
{
	return tls->record->is_established;
}

const char *tls_lib_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION_STRING);
}

/* ---- explaining ---- */

static void explain_chain(const struct tls *tls, char *ret, size_t size)
{
	const struct record *r = tls->record;
	const char *whose = r->depth == 0 ? "the server's certificate"
					  : "a CA certificate of the server";
	char today[32];

	print_today(today, sizeof(today));
	switch (r->error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		snprintf(ret, size,
			"%s '%s' has expired at %s (this machine's clock says "
			"%s): renew it on the server, or set the clock",
			whose, r->subject, r->end, today);
		return;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		snprintf(ret, size,
			"%s '%s' is not yet valid, it begins at %s (this "
			"machine's clock says %s): set the clock, or correct "
			"it on the server",
			whose, r->subject, r->begin, today);
		return;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		snprintf(ret, size,
			"the server's certificate '%s' is not for the host "
			"name '%s' but for %s: correct uplink.host",
			r->subject, tls->host,
			r->names[0] ? r->names : "no name at all");
		return;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		snprintf(ret, size,
			"%s '%s' is not trusted: its issuer '%s' is not among "
			"the CAs in uplink.ca '%s'; put the cloud's root "
			"certificate there",
			whose, r->subject, r->issuer, tls->ca);
		return;
	default:
		snprintf(ret, size,
			"%s '%s' is refused: %s; this must be mended on the "
			"server",
			whose, r->subject,
			X509_verify_cert_error_string(r->error));
		return;
	}
}

static void explain_alert(const struct tls *tls, char *ret, size_t size)
{
	int alert = tls->record->alert;
	const char *name = SSL_alert_desc_string_long(alert);

	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_REQUIRED:
		snprintf(ret, size,
			"the server refused our certificate '%s' ('%s', valid "
			"until %s): TLS alert '%s'; register it with the "
			"cloud, or get a new one",
			tls->certificate, tls->own_subject, tls->own_end, name);
		return;
	default:
		snprintf(ret, size,
			"the server ended the TLS handshake: alert '%s'; check "
			"uplink.host and uplink.port",
			name);
		return;
	}
}

void tls_explain(const struct tls *tls, char *ret, size_t size)
{
	ret[0] = '\0';
	if (tls->record->error)
		explain_chain(tls, ret, size);
	else if (tls->record->alert >= 0)
		explain_alert(tls, ret, size);
}
