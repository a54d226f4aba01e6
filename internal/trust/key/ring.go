package key

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/sealed"
)

const (
	indexFile = "keyring.json"
	// maxIndex and maxKeys bound a ring: one that is rotated every day for a year
	// has a tenth.
	maxIndex = 1 << 20
	maxKeys  = 4000
	maxName  = 64
	// lockFor is how long a ring that somebody else changes is waited for; making
	// the largest RSA key takes some seconds.
	lockFor   = 30 * time.Second
	lockPause = 50 * time.Millisecond
	// maxOverlap bounds how long the key that was replaced is still good.
	maxOverlap = 10 * 365 * 24 * time.Hour
)

// State is what may be done with a key.
type State string

// The states.
const (
	Active   State = "active"   // it signs
	Retiring State = "retiring" // it was replaced; what it signed is still good until Until
	Retired  State = "retired"  // what it signed is good only with proof that it did so before Until
	Lost     State = "lost"     // somebody else may have had it from Since on
)

// Key is a key of a ring.
type Key struct {
	Name        string    `json:"name"`   // of the line of keys that replace each other
	Number      int       `json:"number"` // its place in that line, from 1
	Algorithm   Algorithm `json:"algorithm"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
	State       State     `json:"state"`
	Until       time.Time `json:"until,omitzero"`       // of one that was replaced: when the overlap ends
	Format      Format    `json:"format,omitempty"`     // how it is sealed; "": Cosign
	Recipients  []string  `json:"recipients,omitempty"` // of age, that it is sealed for; none: a password
	Since       time.Time `json:"since,omitzero"`       // of one that is lost: from when on others may have had it
}

// ID is what files and trust policies call the key.
func (k Key) ID() string { return fmt.Sprintf("%s-%d", k.Name, k.Number) }

// at is the key as of a time: overlaps end by themselves.
func (k Key) at(now time.Time) Key {
	if k.State == Retiring && !now.Before(k.Until) {
		k.State = Retired
	}
	return k
}

// Policy is the key as a trust policy lists it below roots.keys; path is the
// public key's file. It is what makes a rotation or a loss known to whoever
// verifies.
func (k Key) Policy(path string) string {
	text := fmt.Sprintf("%s: {file: %q", k.ID(), path)
	if !k.Until.IsZero() {
		text += ", notAfter: " + k.Until.UTC().Format(time.RFC3339)
	}
	if k.State == Lost {
		text += ", lost: " + k.Since.UTC().Format(time.RFC3339)
	}
	return text + "}"
}

// Sealing says in a few words how the key is sealed.
func (k Key) Sealing() string {
	switch {
	case k.Format != Age:
		return "password (cosign)"
	case len(k.Recipients) == 0:
		return "password (age)"
	case len(k.Recipients) == 1:
		return "1 recipient (age)"
	}
	return fmt.Sprintf("%d recipients (age)", len(k.Recipients))
}

// Format is how a key's file is sealed.
type Format string

// The formats.
const (
	Cosign Format = "cosign" // with a password, as cosign reads it
	Age    Format = "age"    // with a password or for recipients, as age reads it
)

// Formats are those that keys can be sealed in, the default first.
func Formats() []Format { return []Format{Cosign, Age} }

// Options are how a key is made.
type Options struct {
	Algorithm  Algorithm // zero: P256
	Format     Format    // zero: Cosign
	Recipients []string  // of age: who may open it, as age1…; none: whoever has the password
	Password   Password  // not asked where there are recipients
}

// Ring is a folder of keys. Its index has no secrets, and the private keys are
// sealed. It may be used by several processes at once.
type Ring struct{ dir string }

// OpenRing returns the ring in a folder, which is made with the first key.
func OpenRing(dir string) *Ring { return &Ring{dir} }

// PublicFile is where a key's public half is.
func (r *Ring) PublicFile(k Key) string { return r.file(k, ".pub") }

// PrivateFile is where a key is.
func (r *Ring) PrivateFile(k Key) string { return r.file(k, ".key") }

// CertificateFile is where a key's certificate for the Notary Project is, with those
// above it, if it has one.
func (r *Ring) CertificateFile(k Key) string { return r.file(k, ".crt") }

func (r *Ring) file(k Key, ending string) string { return filepath.Join(r.dir, k.ID()+ending) }

// List returns all keys as of a time, by name and number.
func (r *Ring) List(now time.Time) ([]Key, error) {
	keys, err := r.read()
	for i := range keys {
		keys[i] = keys[i].at(now)
	}
	return keys, err
}

// Generate makes the first key of a name.
func (r *Ring) Generate(name string, o Options, now time.Time) (Key, error) {
	var made Key
	err := r.change(func(keys []Key) ([]Key, error) {
		if of := line(keys, name); len(of) > 0 {
			return nil, fault.New(fault.Conflict, "there is a key %s already", name).With("replace it: castellan trust key rotate " + name)
		}
		var err error
		made, err = r.make(name, 1, o, now)
		return append(keys, made), err
	})
	return made, r.unless(err, made)
}

// Rotate makes a key that replaces the active one of its name. The old one is
// still good for the overlap.
func (r *Ring) Rotate(name string, o Options, overlap time.Duration, now time.Time) (made Key, replaced *Key, err error) {
	if overlap < 0 || overlap > maxOverlap {
		return Key{}, nil, fault.New(fault.Invalid, "an overlap of %s", overlap).With("give one of some days or weeks, as 720h")
	}
	err = r.change(func(keys []Key) ([]Key, error) {
		of := line(keys, name)
		if len(of) == 0 {
			return nil, r.none(keys, name)
		}
		last := keys[of[len(of)-1]]
		o.like(last)
		var err error
		if made, err = r.make(name, last.Number+1, o, now); err != nil {
			return nil, err
		}
		for _, i := range of {
			if keys[i].State == Active {
				keys[i].State, keys[i].Until = Retiring, now.Add(overlap).UTC().Truncate(time.Second)
				replaced = new(keys[i].at(now))
			}
		}
		return append(keys, made), nil
	})
	return made, replaced, r.unless(err, made)
}

// like takes over from the key that is replaced what is not said.
func (o *Options) like(last Key) {
	if o.Algorithm == "" {
		o.Algorithm = last.Algorithm
	}
	if o.Format == "" && len(o.Recipients) == 0 {
		o.Format, o.Recipients = last.Format, last.Recipients
	}
}

// check refuses what does not go together.
func (o *Options) check() error {
	switch {
	case o.Format != "" && !slices.Contains(Formats(), o.Format):
		return fault.New(fault.Invalid, "no keys are sealed in the form %.40q", o.Format).With(fmt.Sprintf("take one of %v", Formats()))
	case len(o.Recipients) > 0 && o.Format != Age:
		return fault.New(fault.Invalid, "only keys in age's form are sealed for recipients").With("add --format age")
	case len(o.Recipients) == 0 && o.Password == nil:
		return fault.New(fault.Invalid, "a key without a password").With("give one: --password-file FILE, or CASTELLAN_KEY_PASSWORD")
	}
	_, err := ageRecipients(o.Recipients)
	return err
}

// unless removes a key that was made and could not be noted. One that the index has
// stays: it was noted, and only what came after went wrong.
func (r *Ring) unless(err error, made Key) error {
	if err == nil || made.Fingerprint == "" {
		return err
	}
	keys, unread := r.read()
	if unread != nil {
		return errors.Join(err, unread) // rather a file too many than the only copy of a key
	}
	if slices.ContainsFunc(keys, func(k Key) bool { return k.ID() == made.ID() && k.Fingerprint == made.Fingerprint }) {
		return err
	}
	return errors.Join(err, os.Remove(r.PrivateFile(made)), os.Remove(r.PublicFile(made)))
}

// Lose notes that somebody else may have had a key from a time on: a key by its
// ID, or the active one of a name.
func (r *Ring) Lose(id string, since, now time.Time) (Key, error) {
	if since.After(now) {
		return Key{}, fault.New(fault.Invalid, "%s is yet to come", since.Format(time.RFC3339)).With("say from when on somebody else may have had it; if you do not know, since it was made")
	}
	var lost Key
	err := r.change(func(keys []Key) ([]Key, error) {
		i := find(keys, id)
		if i < 0 {
			return nil, r.none(keys, id)
		}
		since = since.UTC().Truncate(time.Second)
		if keys[i].State == Lost && keys[i].Since.Before(since) {
			return nil, fault.New(fault.Conflict, "key %s is lost since %s already", keys[i].ID(), keys[i].Since.Format(time.RFC3339)).
				With("an earlier date can be given, a later one would trust it again")
		}
		if since.Before(keys[i].Created) {
			since = keys[i].Created
		}
		keys[i].State, keys[i].Since = Lost, since
		lost = keys[i]
		return keys, nil
	})
	return lost, err
}

// Find returns the active key of a name, or by its ID any.
func (r *Ring) Find(id string, now time.Time) (Key, error) {
	keys, err := r.List(now)
	if err != nil {
		return Key{}, err
	}
	i := find(keys, id)
	if i < 0 {
		return Key{}, r.none(keys, id)
	}
	return keys[i], nil
}

// Signer opens a key for signing: the active one of a name, or by its ID any but
// one that is retired or lost.
func (r *Ring) Signer(id string, password Password, now time.Time) (crypto.Signer, Key, error) {
	k, err := r.Find(id, now)
	if err != nil {
		return nil, Key{}, err
	}
	if k.State == Lost || k.State == Retired {
		return nil, k, fault.New(fault.Denied, "key %s is %s", k.ID(), k.State).With("sign with the key that replaced it, or make one: castellan trust key rotate " + k.Name)
	}
	signer, err := Load(r.PrivateFile(k), password, false)
	if err != nil {
		return nil, k, err
	}
	print, err := sealed.Fingerprint(signer.Public())
	if err == nil && print != k.Fingerprint {
		err = fault.New(fault.Corrupt, "%s holds the key %s, and the ring says %s", r.PrivateFile(k), print, k.Fingerprint).
			With("somebody changed one of the two: find out who, and make a new key")
	}
	return signer, k, err
}

// make makes a key and writes it.
func (r *Ring) make(name string, number int, o Options, now time.Time) (Key, error) {
	k := Key{Name: name, Number: number, Created: now.UTC().Truncate(time.Second), State: Active}
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	if err := o.check(); err != nil {
		return Key{}, err
	}
	var password []byte
	if len(o.Recipients) == 0 {
		var err error
		if password, err = o.Password(); err != nil {
			return Key{}, err
		}
		defer Wipe(password)
		if isIdentity(password) {
			return Key{}, fault.New(fault.Invalid, "a new key is sealed with a password or for recipients, and an age identity was given").With("name its recipient, which age-keygen -y prints: --recipient age1…")
		}
	}
	seal := func(s crypto.Signer) ([]byte, error) { return Seal(s, password) }
	if o.Format == Age {
		k.Format, k.Recipients = Age, o.Recipients
		seal = func(s crypto.Signer) ([]byte, error) { return sealAge(s, password, o.Recipients) }
	}
	pair, err := writePair(filepath.Join(r.dir, k.ID()), o.Algorithm, seal)
	k.Algorithm, k.Fingerprint = pair.Algorithm, pair.Fingerprint
	return k, err
}

// checkName refuses a name that is none for a file, or that could be taken for an
// ID.
func checkName(name string) error {
	ok := name != "" && len(name) <= maxName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" &&
		'a' <= name[0] && name[0] <= 'z'
	if at := strings.LastIndexByte(name, '-'); ok && at >= 0 && strings.Trim(name[at+1:], "0123456789") == "" {
		ok = false
	}
	if !ok {
		return fault.New(fault.Invalid, "%.80q is no name for a key", name).
			With("take up to 64 lower-case letters, digits, dots, dashes and underscores, a letter first and no number after the last dash")
	}
	return nil
}

// line returns the places of the keys of a name, in their order.
func line(keys []Key, name string) []int {
	var of []int
	for i, k := range keys {
		if k.Name == name {
			of = append(of, i)
		}
	}
	return of
}

// find returns the place of the key that an ID, or of the active one that a name
// means; -1 if there is none.
func find(keys []Key, id string) int {
	return slices.IndexFunc(keys, func(k Key) bool { return k.ID() == id || k.Name == id && k.State == Active })
}

func (r *Ring) none(keys []Key, id string) error {
	var names []string
	for _, k := range keys {
		names = append(names, k.ID())
	}
	return fault.New(fault.NotFound, "there is no key %.80q in %s; there is %v", id, r.dir, names).
		With("name one of those, or make one: castellan trust key generate")
}

// change reads the index, has it changed, and writes it, with nobody else
// changing it meanwhile.
func (r *Ring) change(do func([]Key) ([]Key, error)) (err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of keys: %w", err)
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	keys, err := r.read()
	if err != nil {
		return err
	}
	if keys, err = do(keys); err != nil {
		return err
	}
	if len(keys) > maxKeys {
		return fault.New(fault.Exhausted, "more than %d keys in %s", maxKeys, r.dir).With("keep others in another folder")
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return a.Number - b.Number
	})
	b, err := json.MarshalIndent(ringFile{1, keys}, "", "  ")
	if err != nil {
		return err
	}
	return r.write(append(b, '\n'))
}

// lock keeps others who change the ring out until unlock is called, or the
// process ends.
func (r *Ring) lock() (unlock func() error, err error) {
	dir, err := os.Open(r.dir)
	if err != nil {
		return nil, err
	}
	for waited := time.Duration(0); ; waited += lockPause {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || waited >= lockFor {
			break
		}
		time.Sleep(lockPause)
	}
	if err != nil {
		return nil, errors.Join(fault.New(fault.Conflict, "somebody else is changing the keys in %s: %w", r.dir, err).With("try again when that is done"), dir.Close())
	}
	return dir.Close, nil // which gives the lock back
}
