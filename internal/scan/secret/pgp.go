package secret

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

// pgpState tells by the armour whether there is a whole key of OpenPGP, and by its
// packets (RFC 9580, 5.5.3) whether it is behind a passphrase.
func pgpState(text string) inventory.KeyState {
	if !strings.Contains(text, "-----END PGP PRIVATE KEY BLOCK-----") {
		return inventory.KeyIncomplete
	}
	_, body, ok := strings.Cut(text, "\n\n")
	if !ok {
		return inventory.KeyIncomplete
	}
	body, _, _ = strings.Cut(body, "\n=")
	body, _, _ = strings.Cut(body, "\n-----END")
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil || len(b) < leastKey {
		return inventory.KeyIncomplete
	}
	return pgpPackets(b)
}

// Tags of packets that have a secret key.
const (
	pgpSecretKey    = 5
	pgpSecretSubkey = 7
)

// pgpPackets says how the secret keys in a row of packets are kept: one that is
// open makes all of it whole, and where no packet has a secret, as with a key whose
// secret is on a card, there is none. What it does not know is taken for whole.
func pgpPackets(b []byte) inventory.KeyState {
	state := inventory.KeyIncomplete
	for len(b) > 0 {
		tag, packet, rest, ok := pgpPacket(b)
		if !ok {
			if state == inventory.KeyIncomplete {
				return inventory.KeyWhole
			}
			return state
		}
		b = rest
		if tag != pgpSecretKey && tag != pgpSecretSubkey {
			continue
		}
		switch s := pgpProtection(packet); s {
		case inventory.KeyWhole:
			return s
		case inventory.KeyEncrypted:
			state = s
		}
	}
	return state
}

// pgpPacket parts the first packet from the rest.
func pgpPacket(b []byte) (tag byte, packet, rest []byte, ok bool) {
	r := octets{b: b}
	head := r.byte()
	if head&0x80 == 0 {
		return 0, nil, nil, false
	}
	length := 0
	if head&0x40 != 0 { // the newer format
		tag = head & 0x3f
		switch n := int(r.byte()); {
		case n < 192:
			length = n
		case n < 224:
			length = (n-192)<<8 + int(r.byte()) + 192
		case n == 255:
			length = r.number(4)
		default:
			return 0, nil, nil, false // in parts, which keys may not be
		}
	} else {
		tag = head >> 2 & 0xf
		if head&3 == 3 {
			return 0, nil, nil, false // without a length
		}
		length = r.number(1 << (head & 3))
	}
	packet = r.take(length)
	return tag, packet, r.b, !r.short
}

// pgpProtection says how one secret key is kept.
func pgpProtection(packet []byte) inventory.KeyState {
	r := octets{b: packet}
	version := r.byte()
	r.take(4) // when it was made
	if version <= 3 {
		r.take(2) // how long it holds
	}
	algorithm := r.byte()
	if version >= 5 {
		r.take(r.number(4)) // the public part
	} else if !r.public(algorithm) {
		return inventory.KeyWhole // an algorithm that is not known
	}
	usage := r.byte()
	switch {
	case r.short:
		return inventory.KeyIncomplete
	case usage == 0:
		return inventory.KeyWhole
	case usage >= 253:
		if version >= 5 {
			r.byte() // how long what follows is
		}
		r.byte() // the cipher
		if usage == 253 {
			r.byte() // the mode
		}
		if version >= 6 {
			r.byte()
		}
		const gnu = 101 // GnuPG's own: mode 1 has no secret here, mode 2 has it on a card
		if r.byte() == gnu {
			r.byte()
			if string(r.take(3)) == "GNU" {
				return inventory.KeyIncomplete
			}
		}
	}
	return inventory.KeyEncrypted
}

// octets are read from the front; short says that there were too few.
type octets struct {
	b     []byte
	short bool
}

func (r *octets) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *octets) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number is one of n bytes, of at most four.
func (r *octets) number(n int) int {
	var wide [4]byte
	copy(wide[4-n:], r.take(n))
	return int(binary.BigEndian.Uint32(wide[:]))
}

// public takes the public part of a key of version 4 or below, and says whether its
// algorithm is known.
func (r *octets) public(algorithm byte) bool {
	numbers := 0
	switch algorithm {
	case 1, 2, 3: // RSA
		numbers = 2
	case 16, 20: // Elgamal
		numbers = 3
	case 17: // DSA
		numbers = 4
	case 18, 19, 22: // elliptic curves: the curve's name, a point
		r.take(int(r.byte()))
		numbers = 1
	case 25, 27: // X25519, Ed25519
		r.take(32)
	case 26: // X448
		r.take(56)
	case 28: // Ed448
		r.take(57)
	default:
		return false
	}
	for range numbers {
		const bitsPerByte = 8
		r.take((r.number(2) + bitsPerByte - 1) / bitsPerByte)
	}
	if algorithm == 18 { // ECDH: how keys are derived
		r.take(int(r.byte()))
	}
	return true
}
