package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
)

// mpi is a number as OpenPGP writes it.
func mpi(bits int) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(bits)), bytes.Repeat([]byte{0x5a}, (bits+7)/8)...)
}

// secretPacket is a packet of a secret key, its length in the newer form or the older.
func secretPacket(tag byte, newer bool, body []byte) []byte {
	if newer {
		return append(binary.BigEndian.AppendUint32([]byte{0xc0 | tag, 255}, uint32(len(body))), body...)
	}
	return append(binary.BigEndian.AppendUint16([]byte{0x80 | tag<<2 | 1}, uint16(len(body))), body...)
}

func armour(packets ...[]byte) string {
	b := base64.StdEncoding.EncodeToString(bytes.Join(packets, nil))
	var lines []string
	for len(b) > 64 {
		lines, b = append(lines, b[:64]), b[64:]
	}
	return "-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: a test\n\n" + strings.Join(append(lines, b), "\n") + "\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----"
}

// Keys are put together here as RFC 9580 has them: how one is kept stands after its
// public part.
func TestPGPState(t *testing.T) {
	made := []byte{1, 2, 3, 4}
	rsa := bytes.Join([][]byte{{4}, made, {1}, mpi(1024), mpi(17)}, nil)
	curve := bytes.Join([][]byte{{4}, made, {22, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, mpi(263)}, nil)
	ecdh := bytes.Join([][]byte{{4}, made, {18, 3, 1, 2, 3}, mpi(263), {3, 1, 8, 7}}, nil)
	version6 := bytes.Join([][]byte{{6}, made, {27, 0, 0, 0, 32}, bytes.Repeat([]byte{7}, 32)}, nil)
	open := append([]byte{0}, bytes.Repeat([]byte{9}, 60)...)
	behind := append([]byte{254, 9, 3, 8, 1, 2, 3, 4, 5, 6, 7, 8, 96}, bytes.Repeat([]byte{9}, 60)...)
	aead := append([]byte{253, 26, 9, 3, 12, 4}, bytes.Repeat([]byte{9}, 60)...)
	elsewhere := []byte{255, 0, 101, 0, 'G', 'N', 'U', 1}
	join := func(a, b []byte) []byte { return append(append([]byte{}, a...), b...) }
	user := secretPacket(13, true, []byte("A. Uthor <a@example.org>"))
	for _, tc := range []struct {
		name string
		text string
		want inventory.KeyState
	}{
		{"open", armour(secretPacket(5, false, join(rsa, open)), user), inventory.KeyWhole},
		{"behind a passphrase", armour(secretPacket(5, false, join(rsa, behind)), user, secretPacket(7, true, join(ecdh, behind))), inventory.KeyEncrypted},
		{"elliptic, open", armour(secretPacket(5, true, join(curve, open))), inventory.KeyWhole},
		{"elliptic, behind one", armour(secretPacket(5, true, join(curve, behind))), inventory.KeyEncrypted},
		{"version 6, open", armour(secretPacket(5, true, join(version6, open))), inventory.KeyWhole},
		{"version 6, behind one", armour(secretPacket(5, true, join(version6, aead))), inventory.KeyEncrypted},
		{"older cipher without a salt", armour(secretPacket(5, false, join(rsa, append([]byte{9}, open...)))), inventory.KeyEncrypted},
		{"secret elsewhere", armour(secretPacket(5, false, join(rsa, elsewhere)), user), inventory.KeyIncomplete},
		{"secret elsewhere, a part here", armour(secretPacket(5, false, join(rsa, elsewhere)), user, secretPacket(7, false, join(rsa, behind))), inventory.KeyEncrypted},
		{"a part open", armour(secretPacket(5, false, join(rsa, behind)), user, secretPacket(7, false, join(rsa, open))), inventory.KeyWhole},
		{"cut off", strings.Replace(armour(secretPacket(5, false, join(rsa, open))), "-----END", "", 1), inventory.KeyIncomplete},
		{"unknown algorithm", armour(secretPacket(5, false, bytes.Join([][]byte{{4}, made, {99}, open}, nil))), inventory.KeyWhole},
		{"no packets", armour(bytes.Repeat([]byte{7}, 60)), inventory.KeyWhole},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := keyState(tc.text); got != tc.want {
				t.Errorf("keyState = %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzPGP: it ends, without a panic.
func FuzzPGP(f *testing.F) {
	f.Add(secretPacket(5, true, append([]byte{4, 1, 2, 3, 4, 1}, mpi(64)...)))
	f.Add([]byte{0xc5, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := pgpPackets(b); s != inventory.KeyWhole && s != inventory.KeyEncrypted && s != inventory.KeyIncomplete {
			t.Errorf("state %q", s)
		}
	})
}
