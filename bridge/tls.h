#ifndef BRIDGE_TLS_H
#define BRIDGE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/scope.h"

struct ssl_ctx_st;

/* The uplink's TLS: one SSL_CTX of our own for each connection, so that
 * certificates that were replaced on disk are used by the next one.
 *
 * TLS 1.2 or 1.3, AEAD ciphers with forward secrecy, the peer's chain, dates,
 * purpose and host name verified, our certificate presented (RFC 5246, 8446,
 * 6125).  There is no way to turn any of it off.
 *
 * Dates are judged at the later of the clock and the begin of our own
 * certificate: a machine without a clock battery wakes up in 1970. */
struct tls;

struct tls_options {
	const char *host; /* host name or address that the peer must have */
	const char *ca;   /* paths of PEM files */
	const char *certificate;
	const char *key;
};

/* *ret_tls is the caller's, to be ended by tls_free().  On an error ret_reason
 * says which file is wrong and what to do: -ENOENT, -EACCES, -EINVAL, -EIO,
 * -ENOMEM. */
CHECKED int tls_new(const struct tls_options *o, char *ret_reason, size_t size,
	struct tls **ret_tls);

struct tls *tls_free(struct tls *tls);
DEFINE_SCOPED(struct tls *, tls_free);

/* For MOSQ_OPT_SSL_CTX; borrowed. */
struct ssl_ctx_st *tls_ctx(struct tls *tls);

/* Whether a handshake was done to its end, as far as this side can see. */
bool tls_is_established(const struct tls *tls);

/* What went wrong in the handshakes of this context: which certificate, why,
 * and what to do.  "" when nothing did. */
void tls_explain(const struct tls *tls, char *ret, size_t size);

/* Something about our own certificate that a person should know now: expired,
 * or soon; not valid yet; the key readable by everybody.  "" if nothing. */
const char *tls_warning(const struct tls *tls);

/* Version of the library, for --version. */
const char *tls_lib_version(void);

#endif
