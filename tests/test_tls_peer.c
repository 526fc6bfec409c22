/* Tests of bridge/tls.h: handshakes in memory with a server that is wrong. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bridge/tls.h"
#include "tests/certs.h"
#include "tests/unit.h"

static void only_modern_tls_is_offered(void)
{
	SSL *ssl;
	STACK_OF(SSL_CIPHER) * ciphers;
	int i;

	make();
	CU_ASSERT_EQUAL(
		SSL_CTX_get_min_proto_version(tls_ctx(tls)), TLS1_2_VERSION);
	CU_ASSERT_EQUAL(SSL_CTX_get_verify_mode(tls_ctx(tls)), SSL_VERIFY_PEER);
	ssl = SSL_new(tls_ctx(tls));
	ciphers = SSL_get1_supported_ciphers(ssl);
	CU_ASSERT_TRUE(sk_SSL_CIPHER_num(ciphers) > 3);
	for (i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(ciphers, i);
		int kx = SSL_CIPHER_get_kx_nid(c);

		CU_ASSERT_TRUE(SSL_CIPHER_is_aead(c));
		CU_ASSERT_TRUE(kx == NID_kx_ecdhe || kx == NID_kx_any);
	}
	sk_SSL_CIPHER_free(ciphers);
	SSL_free(ssl);
}

static SSL *make_server(int max_version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	SSL *ssl;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ctx);
	CU_ASSERT_EQUAL(SSL_CTX_use_certificate(ctx, server.cert), 1);
	CU_ASSERT_EQUAL(SSL_CTX_use_PrivateKey(ctx, server.key), 1);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca.cert);
	SSL_CTX_set_verify(
		ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_max_proto_version(ctx, max_version);
	SSL_CTX_set_security_level(ctx, 0);
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_accept_state(ssl);
	return ssl;
}

/* Connect to the server; whether bytes pass.  What went wrong is in `why`. */
static bool connects(int max_version)
{
	SSL *theirs = make_server(max_version);
	SSL *ours = SSL_new(tls_ctx(tls));
	bool is_up = false;
	BIO *a;
	BIO *b;
	char byte;
	int i;

	CU_ASSERT_EQUAL_FATAL(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	SSL_set_bio(theirs, a, a);
	SSL_set_bio(ours, b, b);
	SSL_set_connect_state(ours);
	/* TLS 1.3: its no comes only when we are through. */
	for (i = 0; i < 20 && !is_up; i++) {
		SSL_do_handshake(ours);
		SSL_do_handshake(theirs);
		if (SSL_is_init_finished(theirs))
			SSL_write(theirs, "x", 1);
		is_up = SSL_is_init_finished(ours) &&
			SSL_read(ours, &byte, 1) == 1;
	}
	ERR_clear_error();
	SSL_free(ours);
	SSL_free(theirs);
	tls_explain(tls, why, sizeof(why));
	return is_up;
}

static void expect_connection(void)
{
	make();
	CU_ASSERT_TRUE(connects(TLS1_3_VERSION));
	CU_ASSERT_STRING_EQUAL(why, "");
	CU_ASSERT_TRUE(connects(TLS1_2_VERSION));
	CU_ASSERT_STRING_EQUAL(why, "");
}

static void expect_failure(int max_version, const char *words)
{
	make();
	CU_ASSERT_FALSE(connects(max_version));
	if (!strstr(why, words))
		fprintf(stderr, "%s\n", why);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, words));
}

static void a_right_server_is_taken(void)
{
	expect_connection();
	issue_server(-DAY, DAY, "IP:192.0.2.7");
	o.host = "192.0.2.7";
	expect_connection();
	issue_server(-DAY, DAY, "IP:2001:db8::7");
	o.host = "2001:db8::7";
	expect_connection();
}

static void a_server_of_another_ca_is_told(void)
{
	struct party other = {NULL, NULL};

	issue(&other, "Other Root", NULL, -DAY, DAY, NULL, NULL);
	issue(&server, "cloud", &other, -DAY, DAY, "DNS:" HOST, NULL);
	expect_failure(TLS1_3_VERSION,
		"is not trusted: its issuer "
		"'CN=Other Root' is not among the CAs");
	CU_ASSERT_PTR_NOT_NULL(strstr(why, ca_path));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "'CN=cloud'"));
	/* One that signed itself. */
	issue(&server, HOST, NULL, -DAY, DAY, "DNS:" HOST, NULL);
	expect_failure(TLS1_3_VERSION, "is not trusted");
	/* One that only says that it is from our CA. */
	party_free(&other);
	issue(&other, "Cloud Root", NULL, -DAY, DAY, NULL, NULL);
	issue(&server, "cloud", &other, -DAY, DAY, "DNS:" HOST, NULL);
	expect_failure(TLS1_3_VERSION, "is not trusted");
	party_free(&other);
}

static void an_expired_server_is_told(void)
{
	issue_server(-3 * DAY, -2 * DAY, "DNS:" HOST);
	expect_failure(TLS1_3_VERSION,
		"the server's certificate 'CN=cloud' has expired at 2");
	expect_failure(TLS1_2_VERSION, "renew it on the server, or set");
}

static void a_server_not_yet_valid_is_told(void)
{
	issue_server(2 * DAY, 3 * DAY, "DNS:" HOST);
	expect_failure(TLS1_3_VERSION,
		"the server's certificate 'CN=cloud' is not yet valid, it "
		"begins at 2");
}

static void a_ca_that_has_expired_is_told(void)
{
	X509_gmtime_adj(X509_getm_notAfter(ca.cert), -3600);
	CU_ASSERT_TRUE(X509_sign(ca.cert, ca.key, EVP_sha256()) > 0);
	write_cert(ca_path, ca.cert);
	expect_failure(TLS1_3_VERSION,
		"a CA certificate of the server 'CN=Cloud Root' has expired");
}

static void a_server_of_another_name_is_told(void)
{
	issue_server(-DAY, DAY, "DNS:other.example, DNS:b.example");
	expect_failure(TLS1_3_VERSION,
		"is not for the host name '" HOST
		"' but for DNS:other.example, DNS:b.example: correct "
		"uplink.host");
	issue_server(-DAY, DAY, NULL);
	expect_failure(TLS1_3_VERSION, "is not for the host name");
	issue_server(-DAY, DAY, "IP:192.0.2.8");
	o.host = "192.0.2.7";
	expect_failure(
		TLS1_3_VERSION, "'192.0.2.7' but for IP Address:192.0.2.8");
	/* A whole label may be a wildcard, a part of one not. */
	o.host = "cloud.edge.example";
	issue_server(-DAY, DAY, "DNS:*.edge.example");
	expect_connection();
	issue_server(-DAY, DAY, "DNS:cl*.edge.example");
	expect_failure(TLS1_3_VERSION, "is not for the host name");
}

static void a_certificate_for_clients_is_no_server(void)
{
	issue(&server, "cloud", &ca, -DAY, DAY, "DNS:" HOST, "clientAuth");
	expect_failure(TLS1_3_VERSION, "purpose");
}

static void an_old_server_is_told(void)
{
	expect_failure(TLS1_1_VERSION, "the server ended the TLS handshake");
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "uplink.port"));
}

static void what_the_server_says_of_us_is_told(void)
{
	struct party other = {NULL, NULL};

	issue_own(-3 * DAY, -2 * DAY);
	expect_failure(TLS1_3_VERSION, "the server refused our certificate");
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "certificate expired"));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, cert_path));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "'CN=gw-1', valid until 2"));
	expect_failure(TLS1_2_VERSION, "the server refused our certificate");
	issue(&other, "Other Root", NULL, -DAY, DAY, NULL, NULL);
	issue(&own, "gw-1", &other, -DAY, DAY, NULL, "clientAuth");
	write_cert(cert_path, own.cert);
	write_key(key_path, own.key, NULL);
	expect_failure(TLS1_3_VERSION, "the server refused our certificate");
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "unknown CA"));
	party_free(&other);
}

/* Our clock stands before our own certificate: it cannot be right. */
static void dates_are_judged_not_before_our_own_certificate_s(void)
{
	issue_own(40 * DAY, 400 * DAY);
	issue_server(39 * DAY, 80 * DAY, "DNS:" HOST);
	make();
	connects(TLS1_3_VERSION);
	CU_ASSERT_PTR_NULL(strstr(why, "the server's certificate"));
	/* And what had ended by then is refused. */
	issue_server(-DAY, 39 * DAY, "DNS:" HOST);
	expect_failure(TLS1_3_VERSION,
		"the server's certificate 'CN=cloud' has expired");
}

/* What a peer put into its name must not look like more than a name. */
static void a_hostile_name_stays_short_and_on_one_line(void)
{
	char name[65];

	memset(name, 'n', 64);
	memcpy(name, "a\nb", 3);
	name[64] = '\0';
	issue(&server, name, NULL, -DAY, DAY, "DNS:" HOST, NULL);
	expect_failure(TLS1_3_VERSION, "is not trusted");
	CU_ASSERT_PTR_NULL(strchr(why, '\n'));
	CU_ASSERT_TRUE(strlen(why) < 600);
	/* A small place is kept to. */
	memset(why, 'x', sizeof(why));
	tls_explain(tls, why, 16);
	CU_ASSERT_EQUAL(strlen(why), 15);
	CU_ASSERT_EQUAL(why[16], 'x');
}

int main(void)
{
	CU_TestInfo handshakes[] = {
		{"only modern TLS is offered", only_modern_tls_is_offered},
		{"a right server is taken", a_right_server_is_taken},
		{"a server of another CA is told",
			a_server_of_another_ca_is_told},
		{"an expired server is told", an_expired_server_is_told},
		{"a server not yet valid is told",
			a_server_not_yet_valid_is_told},
		{"a CA that has expired is told",
			a_ca_that_has_expired_is_told},
		{"a server of another name is told",
			a_server_of_another_name_is_told},
		{"a certificate for clients is no server",
			a_certificate_for_clients_is_no_server},
		{"an old server is told", an_old_server_is_told},
		{"what the server says of us is told",
			what_the_server_says_of_us_is_told},
		{"dates are judged not before our own certificate's",
			dates_are_judged_not_before_our_own_certificate_s},
		{"a hostile name stays short and on one line",
			a_hostile_name_stays_short_and_on_one_line},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"handshakes", NULL, NULL, set_up, tear_down, handshakes},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
