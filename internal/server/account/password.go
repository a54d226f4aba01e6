package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/castellan-security/castellan/internal/fault"
)

// Hashing are the parameters of argon2id.
type Hashing struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultHashing returns the parameters that OWASP's password storage sheet
// names: 19 MiB, two passes, one lane.
func DefaultHashing() Hashing { return Hashing{Memory: 19 * 1024, Time: 2, Threads: 1} }

const (
	saltBytes = 16 // RFC 9106, section 4
	hashBytes = 32
	// defaultHashers times DefaultHashing's memory is what sign-ins may take.
	defaultHashers = 2
	// maxWaiting bounds the sign-ins that wait for a hasher; at some 20 ms each
	// the last one waits a second or two.
	maxWaiting = 64
	// Bounds of stored parameters: a damaged row must not exhaust the server.
	maxMemory  = 256 * 1024
	maxTime    = 16
	maxThreads = 16
)

// hasher hashes passwords, a few at a time.
type hasher struct {
	params  Hashing
	slots   chan struct{}
	waiting atomic.Int64
	decoy   string // a hash that no password has, for users that don't exist
}

func newHasher(h Hashing, n int) *hasher {
	salt, sum := make([]byte, saltBytes), make([]byte, hashBytes)
	rand.Read(salt)
	rand.Read(sum)
	return &hasher{params: h, slots: make(chan struct{}, n), decoy: phc(h, salt, sum)}
}

// hash returns the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: crypto/rand ends the program instead
	p := h.params
	sum := argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, hashBytes)
	return phc(p, salt, sum), nil
}

// verify reports whether the password is the one that was hashed, and whether
// it should be hashed anew because the parameters have changed since. Its
// duration depends on the parameters only.
func (h *hasher) verify(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	p, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	got := argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, p != h.params, nil
}

func (h *hasher) enter(ctx context.Context) error {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > maxWaiting {
		return fault.New(fault.Exhausted, "too many people sign in at once").With("try again in a few seconds")
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func (h *hasher) leave() { <-h.slots }

func phc(p Hashing, salt, sum []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		p.Memory, p.Time, p.Threads, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// parsePHC takes the string that phc makes apart; the error is Corrupt and
// holds nothing of the string.
func parsePHC(s string) (p Hashing, salt, sum []byte, err error) {
	corrupt := fault.New(fault.Corrupt, "a stored password hash is damaged").
		With("set a new password from the command line on the server's host")
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, corrupt
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); err != nil {
		return p, nil, nil, corrupt
	}
	if p.Memory < 8 || p.Memory > maxMemory || p.Time < 1 || p.Time > maxTime || p.Threads < 1 || p.Threads > maxThreads {
		return p, nil, nil, corrupt
	}
	b64 := base64.RawStdEncoding
	salt, err1 := b64.DecodeString(parts[4])
	sum, err2 := b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 {
		return p, nil, nil, corrupt
	}
	return p, salt, sum, nil
}

// common are passwords long enough to pass that every list of guesses begins
// with. A full list belongs to an operator's identity provider, not here.
var common = [...]string{
	"123456789012", "1234567890123", "12345678901234", "123456789012345", "1234567890123456",
	"012345678901", "0123456789012", "abcdefghijkl", "abcdefghijklm", "abcdefghijklmn",
	"password1234", "password12345", "password123456", "passw0rd1234", "p@ssw0rd1234",
	"passwordpassword", "password@123", "qwertyuiop12", "qwertyuiop123", "qwertyuiop[]",
	"qwertyuiopasdf", "qwerty123456", "qwertyqwerty", "1q2w3e4r5t6y", "1qaz2wsx3edc",
	"asdfghjkl123", "zxcvbnm12345", "iloveyou1234", "letmeinletmein", "letmein12345",
	"welcome12345", "welcome123456", "administrator", "administrator1", "admin1234567",
	"adminadminadmin", "changemechangeme", "changeme1234", "changeme12345", "secretsecret",
	"superman1234", "football1234", "baseball1234", "correcthorsebatterystaple",
	"castellan123", "castellan1234", "castellancastellan",
}

// checkPassword refuses a new password that is too short, too long or the
// first thing somebody would try. There are no rules of composition, as NIST
// SP 800-63B section 5.1.1.2 asks.
func checkPassword(name, password string) error {
	low := strings.ToLower(password)
	rest := strings.ReplaceAll(low, strings.ToLower(name), "")
	switch {
	case !utf8.ValidString(password):
		return fault.New(fault.Invalid, "password: not valid text")
	case utf8.RuneCountInString(password) < MinPassword:
		return fault.New(fault.Invalid, "password: shorter than %d characters", MinPassword).
			With("use a few unrelated words, or let a password manager make one")
	case len(password) > MaxPassword:
		return fault.New(fault.Invalid, "password: longer than %d bytes", MaxPassword)
	case rest != low && utf8.RuneCountInString(rest) < MinPassword-4:
		return fault.New(fault.Invalid, "password: too much like the user name")
	case monotone(low) || isCommon(low):
		return fault.New(fault.Invalid, "password: one of the first that anybody would guess").
			With("use a few unrelated words, or let a password manager make one")
	}
	return nil
}

func isCommon(low string) bool {
	for _, c := range common {
		if low == c {
			return true
		}
	}
	return false
}

// monotone reports whether s is one character over and over.
func monotone(s string) bool {
	first, n := utf8.DecodeRuneInString(s)
	return strings.Trim(s[n:], string(first)) == ""
}
