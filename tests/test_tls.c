/* Tests of bridge/tls.h: files that are wrong, and what is said of our own
 * certificate; tests/test_tls_peer.c has handshakes. */
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

/* tls_new() says this about this file, and what to do. */
static void refused(
	int error, const char *key, const char *path, const char *words)
{
	char begin[160];

	CU_ASSERT_EQUAL(tls_new(&o, reason, sizeof(reason), &tls), error);
	CU_ASSERT_PTR_NULL(tls);
	snprintf(begin, sizeof(begin), "%s '%s'", key, path);
	if (strncmp(reason, begin, strlen(begin)) || !strstr(reason, words))
		fprintf(stderr, "%s\n", reason);
	CU_ASSERT_EQUAL(strncmp(reason, begin, strlen(begin)), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, words));
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, "; "));
	CU_ASSERT_PTR_NULL(strstr(reason, "(null)"));
	/* Nothing stays behind for the next one to find. */
	CU_ASSERT_EQUAL(ERR_peek_error(), 0);
}

/* ---- files ---- */

static void right_files_make_a_context(void)
{
	make();
	CU_ASSERT_PTR_NOT_NULL(tls_ctx(tls));
	CU_ASSERT_STRING_EQUAL(tls_warning(tls), "");
	tls_explain(tls, why, sizeof(why));
	CU_ASSERT_STRING_EQUAL(why, "");
	CU_ASSERT_PTR_NULL(tls_free(NULL));
	CU_ASSERT_TRUE(strlen(tls_lib_version()) >= 5);
}

static void a_missing_file_is_named(void)
{
	unlink(ca_path);
	refused(-ENOENT, "uplink.ca", ca_path, "No such file or directory");
	write_cert(ca_path, ca.cert);
	unlink(cert_path);
	refused(-ENOENT, "uplink.certificate", cert_path, "No such file");
	write_cert(cert_path, own.cert);
	unlink(key_path);
	refused(-ENOENT, "uplink.key", key_path, "put it there, or correct");
}

static void a_file_without_permission_is_named(void)
{
	if (geteuid() == 0)
		return; /* root may read all */
	chmod(key_path, 0);
	refused(-EACCES, "uplink.key", key_path, "chown root:gatewayd");
	chmod(cert_path, 0);
	refused(-EACCES, "uplink.certificate", cert_path, "chmod 0640");
}

static void what_is_no_pem_is_named(void)
{
	static const char *const texts[] = {"", "\n", "rubbish\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n",
		"-----BEGIN CERTIFICATE-----\n!!!!\n"
		"-----END CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n"
		"-----END CERTIFICATE-----\n"};
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_text(ca_path, texts[i]);
		refused(-EINVAL, "uplink.ca", ca_path,
			"it must hold the cloud's root certificates as PEM");
		write_cert(ca_path, ca.cert);
		write_text(cert_path, texts[i]);
		refused(-EINVAL, "uplink.certificate", cert_path,
			"it must hold this gateway's certificate as PEM");
		write_cert(cert_path, own.cert);
		write_text(key_path, texts[i]);
		refused(-EINVAL, "uplink.key", key_path,
			"it must be the unencrypted PEM key");
		write_key(key_path, own.key, NULL);
	}
	make();
}

static void a_folder_is_no_file(void)
{
	o.ca = dir;
	refused(-EINVAL, "uplink.ca", dir, "it must hold");
	o.ca = ca_path;
	o.certificate = dir;
	refused(-EINVAL, "uplink.certificate", dir, "it must hold");
	o.certificate = cert_path;
	o.key = dir;
	refused(-EINVAL, "uplink.key", dir, "it must be");
}

static void files_in_the_wrong_place_are_named(void)
{
	write_key(cert_path, own.key, NULL);
	refused(-EINVAL, "uplink.certificate", cert_path, "it must hold");
	write_cert(cert_path, own.cert);
	write_cert(key_path, own.cert);
	refused(-EINVAL, "uplink.key", key_path, "it must be");
	write_key(key_path, own.key, NULL);
	write_key(ca_path, own.key, NULL);
	refused(-EINVAL, "uplink.ca", ca_path, "it must hold");
}

static void a_key_of_another_certificate_is_named(void)
{
	write_key(key_path, server.key, NULL);
	refused(-EINVAL, "uplink.key", key_path,
		"that belongs to uplink.certificate");
	CU_ASSERT_PTR_NOT_NULL(strstr(reason, "mismatch"));
}

static void an_encrypted_key_is_named(void)
{
	write_key(key_path, own.key, "secret");
	refused(-EINVAL, "uplink.key", key_path, "unencrypted");
	/* And nobody on a terminal was asked for its password. */
	write_key(key_path, own.key, NULL);
	make();
	CU_ASSERT_PTR_NOT_NULL(SSL_CTX_get_default_passwd_cb(tls_ctx(tls)));
}

static void a_chain_with_a_broken_part_is_named(void)
{
	FILE *f = open_for(cert_path);

	PEM_write_X509(f, own.cert);
	fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		f);
	fclose(f);
	refused(-EINVAL, "uplink.certificate", cert_path, "it must hold");
}

static void files_are_read_anew_each_time(void)
{
	make();
	unlink(key_path);
	CU_ASSERT_STRING_EQUAL(tls_warning(tls), "");
	tls = tls_free(tls);
	refused(-ENOENT, "uplink.key", key_path, "No such file");
	issue_own(-DAY, 365 * DAY);
	make();
}

/* ---- our own certificate ---- */

static void warns(const char *words)
{
	make();
	if (!strstr(tls_warning(tls), words))
		fprintf(stderr, "%s\n", tls_warning(tls));
	CU_ASSERT_PTR_NOT_NULL(strstr(tls_warning(tls), words));
	CU_ASSERT_PTR_NOT_NULL(strstr(tls_warning(tls), dir));
}

static void an_expired_certificate_is_told(void)
{
	issue_own(-3 * DAY, -2 * DAY);
	warns("has expired at 2");
	CU_ASSERT_PTR_NOT_NULL(strstr(tls_warning(tls), "get a new one"));
}

static void a_certificate_not_yet_valid_is_told(void)
{
	issue_own(2 * DAY, 300 * DAY);
	warns("is not yet valid: it begins at 2");
	CU_ASSERT_PTR_NOT_NULL(strstr(tls_warning(tls), "set the clock"));
}

static void a_certificate_that_expires_soon_is_told(void)
{
	issue_own(-DAY, 10 * DAY + 3600);
	warns("expires in 10 days, at 2");
	issue_own(-DAY, 3600);
	warns("expires in 0 days");
	issue_own(-DAY, 31 * DAY);
	make();
	CU_ASSERT_STRING_EQUAL(tls_warning(tls), "");
}

static void a_key_that_everybody_can_read_is_told(void)
{
	chmod(key_path, 0644);
	warns("can be read by everybody on this machine");
	chmod(key_path, 0640);
	make();
	CU_ASSERT_STRING_EQUAL(tls_warning(tls), "");
}

int main(void)
{
	CU_TestInfo files[] = {
		{"right files make a context", right_files_make_a_context},
		{"a missing file is named", a_missing_file_is_named},
		{"a file without permission is named",
			a_file_without_permission_is_named},
		{"what is no PEM is named", what_is_no_pem_is_named},
		{"a folder is no file", a_folder_is_no_file},
		{"files in the wrong place are named",
			files_in_the_wrong_place_are_named},
		{"a key of another certificate is named",
			a_key_of_another_certificate_is_named},
		{"an encrypted key is named", an_encrypted_key_is_named},
		{"a chain with a broken part is named",
			a_chain_with_a_broken_part_is_named},
		{"files are read anew each time",
			files_are_read_anew_each_time},
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo warnings[] = {
		{"an expired certificate is told",
			an_expired_certificate_is_told},
		{"a certificate not yet valid is told",
			a_certificate_not_yet_valid_is_told},
		{"a certificate that expires soon is told",
			a_certificate_that_expires_soon_is_told},
		{"a key that everybody can read is told",
			a_key_that_everybody_can_read_is_told},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"files", NULL, NULL, set_up, tear_down, files},
		{"warnings", NULL, NULL, set_up, tear_down, warnings},
		CU_SUITE_INFO_NULL,
	};

	return unit_run(suites);
}
