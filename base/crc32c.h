#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli; RFC 3720 B.4), the checksum of everything that lasts on
 * disk.  No library in Debian 12 offers it to C.
 *
 * crc: 0 to begin, or the result over the bytes before these. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);

#endif
