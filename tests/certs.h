#ifndef TESTS_CERTS_H
#define TESTS_CERTS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "bridge/tls.h"

/* A CA, certificates from it for us and for a server, and a struct tls. */
#define HOST "cloud.example"
#define DAY 86400L

static char dir[64];
static char ca_path[96];
static char cert_path[96];
static char key_path[96];
static struct tls_options o;
static struct tls *tls;
static char reason[512];
static char why[1024];

/* An issuer, or who has its certificate. */
struct party {
	EVP_PKEY *key;
	X509 *cert;
};

static struct party ca;     /* of the cloud */
static struct party own;    /* ours, from the same CA */
static struct party server; /* the cloud's */

/* ---- certificates ---- */

static inline void add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	CU_ASSERT_PTR_NOT_NULL_FATAL(e);
	CU_ASSERT_EQUAL_FATAL(X509_add_ext(cert, e, -1), 1);
	X509_EXTENSION_free(e);
}

static inline void party_free(struct party *p)
{
	EVP_PKEY_free(p->key);
	X509_free(p->cert);
	p->key = NULL;
	p->cert = NULL;
}

/* A certificate that is valid from begin to end, in seconds from now; issuer
 * NULL: it signs itself, as a CA does; san, eku: NULL for none. */
static inline void issue(struct party *p, const char *name,
	const struct party *issuer, long begin, long end, const char *san,
	const char *eku)
{
	static long serial = 1;
	X509_NAME *subject;

	party_free(p);
	p->key = EVP_EC_gen("P-256");
	p->cert = X509_new();
	CU_ASSERT_TRUE_FATAL(p->key && p->cert);
	X509_set_version(p->cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(p->cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(p->cert), begin);
	X509_gmtime_adj(X509_getm_notAfter(p->cert), end);
	X509_set_pubkey(p->cert, p->key);
	subject = X509_get_subject_name(p->cert);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
		(const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(p->cert,
		issuer ? X509_get_subject_name(issuer->cert) : subject);
	if (!issuer)
		add_extension(
			p->cert, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		add_extension(p->cert, NID_subject_alt_name, san);
	if (eku)
		add_extension(p->cert, NID_ext_key_usage, eku);
	CU_ASSERT_TRUE_FATAL(X509_sign(p->cert, issuer ? issuer->key : p->key,
				     EVP_sha256()) > 0);
}

static inline FILE *open_for(const char *path)
{
	FILE *f = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	return f;
}

static inline void write_text(const char *path, const char *text)
{
	FILE *f = open_for(path);

	fputs(text, f);
	fclose(f);
}

static inline void write_cert(const char *path, X509 *cert)
{
	FILE *f = open_for(path);

	CU_ASSERT_EQUAL(PEM_write_X509(f, cert), 1);
	fclose(f);
}

static inline void write_key(
	const char *path, EVP_PKEY *key, const char *password)
{
	FILE *f = open_for(path);

	CU_ASSERT_EQUAL(
		PEM_write_PKCS8PrivateKey(f, key,
			password ? EVP_aes_256_cbc() : NULL, password,
			password ? (int)strlen(password) : 0, NULL, NULL),
		1);
	fclose(f);
	CU_ASSERT_EQUAL(chmod(path, 0600), 0);
}

static inline void issue_own(long begin, long end)
{
	issue(&own, "gw-1", &ca, begin, end, NULL, "clientAuth");
	write_cert(cert_path, own.cert);
	write_key(key_path, own.key, NULL);
}

static inline void issue_server(long begin, long end, const char *san)
{
	issue(&server, "cloud", &ca, begin, end, san, "serverAuth");
}

static inline void set_up(void)
{
	strcpy(dir, "/tmp/test_tls.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(ca_path, sizeof(ca_path), "%s/ca.pem", dir);
	snprintf(cert_path, sizeof(cert_path), "%s/own.pem", dir);
	snprintf(key_path, sizeof(key_path), "%s/own.key", dir);
	o = (struct tls_options){HOST, ca_path, cert_path, key_path};
	tls = NULL;
	issue(&ca, "Cloud Root", NULL, -DAY, 900 * DAY, NULL, NULL);
	write_cert(ca_path, ca.cert);
	issue_own(-DAY, 365 * DAY);
	issue_server(-DAY, 365 * DAY, "DNS:" HOST);
}

static inline void tear_down(void)
{
	tls = tls_free(tls);
	party_free(&ca);
	party_free(&own);
	party_free(&server);
	unlink(ca_path);
	unlink(cert_path);
	unlink(key_path);
	rmdir(dir);
	ERR_clear_error();
}

static inline void make(void)
{
	int r;

	tls = tls_free(tls);
	reason[0] = '\0';
	r = tls_new(&o, reason, sizeof(reason), &tls);
	if (r)
		fprintf(stderr, "%s\n", reason);
	CU_ASSERT_EQUAL_FATAL(r, 0);
}

#endif
