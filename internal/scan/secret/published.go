package secret

import (
	"crypto/sha256"
	"encoding/hex"
)

// published are private keys that libraries carry to test themselves with: whoever has
// the library, or its source, has them, and nothing trusts them. In programs they are
// no findings, whoever built the program; in a text one may be in use, and is told. The
// key is the beginning of the SHA-256 of what the key is in DER.
var published = map[string]string{
	"0294b4406902e33b": "GnuTLS", "09416ba3e0782523": "GnuTLS", "09f1c1a4680df80b": "GnuTLS", "2859ff03b44c8f0e": "GnuTLS", "458022ddcb5598b3": "GnuTLS",
	"60c323abe4854b03": "GnuTLS", "7e38af7715bbb425": "GnuTLS", "87e288dc7dbc29a2": "GnuTLS", "995b8d5b08ac126a": "GnuTLS", "d245e52c341a7664": "GnuTLS",
	"6f0c3130a081db0c": "gnutls-cli", "82bf1f671fb9c8a3": "gnutls-cli", "aafe40f40e5e2c77": "gnutls-cli", "d609f09d5bc2b903": "gnutls-cli",
	"1820853c99779f8e": "Mbed TLS", "557e06381c7e6448": "Mbed TLS", "916591fe3a480392": "Mbed TLS", "c9af85bb77cb430f": "Mbed TLS",
	"05157bcfa9522d8c": "Mbed TLS", "765fa7ece8f2babd": "Mbed TLS", // encrypted
	"9f5e577867800cd7": "Dovecot",
}

// isPublished says that a text is one of these keys.
func isPublished(text string) bool {
	block := keyBlock(bareLines(text))
	if block == nil {
		return false
	}
	sum := sha256.Sum256(block.Bytes)
	const enough = 8 // bytes: nobody makes a key that meets one of these
	return published[hex.EncodeToString(sum[:enough])] != ""
}
