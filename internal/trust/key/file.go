package key

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
)

// Load reads the private key of a file; see Parse. A file that others may read,
// that belongs to somebody else, or that is a link is refused: it may be known to
// others, or be put there by them.
func Load(path string, password Password, plain bool) (crypto.Signer, error) {
	k, err := load(path, password, plain)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return k, nil
}

func load(path string, password Password, plain bool) (crypto.Signer, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	defer Wipe(b)
	return Parse(b, password, plain)
}

// readPrivate reads a small file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	// Neither a link is followed nor a pipe waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.NotFound, "there is no such file").With("is the path right, and relative to where you are?")
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.Denied, "no permission to read it").With("run castellan as the key's owner")
	case errors.Is(err, syscall.ELOOP):
		return nil, fault.New(fault.Denied, "it is a symbolic link").With("name the file itself: whoever may change the link would choose the key")
	case err != nil:
		return nil, err
	}
	b, err := readOwned(f)
	return b, errors.Join(err, f.Close())
}

func readOwned(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, invalid("it is no regular file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fault.New(fault.Denied, "others may read or change it (mode %#o)", mode).
			With("chmod 600 " + f.Name() + "; if others could, make a new key and report this one: castellan trust key lost")
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return nil, fault.New(fault.Denied, "it belongs to another user (%d)", s.Uid).With("run castellan as the key's owner, or have the file belong to root")
	}
	if info.Size() > maxKeyFile {
		return nil, invalid("a key file of %d bytes, and at most %d are read", info.Size(), maxKeyFile)
	}
	b := make([]byte, info.Size()) // not grown, so that no copies are left in memory
	if _, err := io.ReadFull(f, b); err != nil {
		Wipe(b)
		return nil, fmt.Errorf("read: %w", err)
	}
	return b, nil
}

// create writes a new file, and never over another: mode 0600 for what is
// secret.
func create(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Conflict, "%s is there already", path).With("a key is never overwritten: move it away, or take another name")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// Pair is where a new key was written.
type Pair struct {
	Private, Public string // paths
	Fingerprint     string
	Algorithm       Algorithm
}

// WritePair makes a key and writes it, sealed with a password in cosign's form, to
// path.key and its public half to path.pub. Files that are there are left alone.
func WritePair(path string, a Algorithm, password []byte) (Pair, error) {
	return writePair(path, a, func(k crypto.Signer) ([]byte, error) { return Seal(k, password) })
}

func writePair(path string, a Algorithm, seal func(crypto.Signer) ([]byte, error)) (Pair, error) {
	k, err := generate(a)
	if err != nil {
		return Pair{}, err
	}
	p := Pair{Private: path + ".key", Public: path + ".pub"}
	if p.Algorithm, err = AlgorithmOf(k.Public()); err != nil {
		return Pair{}, err
	}
	if p.Fingerprint, err = sealed.Fingerprint(k.Public()); err != nil {
		return Pair{}, err
	}
	public, err := PublicPEM(k.Public())
	if err != nil {
		return Pair{}, err
	}
	private, err := seal(k)
	if err != nil {
		return Pair{}, err
	}
	if err := create(p.Private, private, 0o600); err != nil {
		return Pair{}, fmt.Errorf("write key: %w", err)
	}
	if err := create(p.Public, public, 0o644); err != nil {
		return Pair{}, errors.Join(fmt.Errorf("write public key: %w", err), os.Remove(p.Private))
	}
	return p, syncFolder(filepath.Dir(path))
}

// syncFolder has a folder's new names survive a loss of power.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// PasswordFile returns the password that is a file's content, without the end of
// its line. Whoever mounts secrets into containers often lets all of the
// container read them, so the file's mode is not looked at.
func PasswordFile(path string) Password {
	return func() ([]byte, error) {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, fault.New(fault.Invalid, "read password: %w", err).With("name a file that castellan may read")
		}
		b := make([]byte, mostPassword+3)
		n, err := io.ReadFull(f, b)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			Wipe(b)
			return nil, fmt.Errorf("read password from %s: %w", path, err)
		}
		return bytes.TrimRight(b[:n], "\r\n"), nil
	}
}

// PasswordVariable returns the password that an environment variable has. The
// variable itself cannot be wiped.
func PasswordVariable(name string) Password {
	return func() ([]byte, error) {
		text, ok := os.LookupEnv(name)
		if !ok {
			return nil, fault.New(fault.Invalid, "the environment variable %s is not set", name).With("set it to the key's password")
		}
		return []byte(text), nil
	}
}
