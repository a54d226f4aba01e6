package notify

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/whole"
)

// keyBytes makes it AES-256.
const keyBytes = 32

// purpose is bound to what is sealed, so that nothing that is sealed for another
// use is ever taken for a destination.
const purpose = "castellan notify destination v1"

// box seals what must be kept and not be read by who has the database alone: a
// backup of it, say. Who has the data folder has the key, too.
type box struct {
	aead cipher.AEAD
	path string
}

// openBox reads the key, or makes one when there is none.
func openBox(path string) (*box, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(path)
	}
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key of %s: %w", path, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use the key of %s: %w", path, err)
	}
	return &box{aead, path}, nil
}

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the key of targets: %w", err)
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, keyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the key of targets: %w", err)
	}
	if len(key) != keyBytes {
		return nil, fault.New(fault.Corrupt, "%s is no key: it has not %d bytes", path, keyBytes).
			With("restore it from a backup, or remove it: a new one is made, and all notification targets must be added anew")
	}
	return key, nil
}

// makeKey writes a key that is whole whenever it is there, for its owner alone.
func makeKey(path string) ([]byte, error) {
	key := make([]byte, keyBytes)
	rand.Read(key)
	if err := writeKey(path, key); err != nil {
		return nil, fault.New(fault.Unavailable, "write the key of targets: %w", err).
			With("let the server write its data folder, and see that its disk is not full")
	}
	return key, nil
}

func writeKey(path string, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return whole.Write(path, key)
}

func (b *box) seal(plain []byte) []byte { return b.aead.Seal(nil, nil, plain, []byte(purpose)) }

func (b *box) open(sealed []byte) ([]byte, error) {
	plain, err := b.aead.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, fault.New(fault.Corrupt, "what it was added with can't be read with the key in %s", b.path).
			With("restore that file from the backup of which the database is, or remove the target and add it anew")
	}
	return plain, nil
}
