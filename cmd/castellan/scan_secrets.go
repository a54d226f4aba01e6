package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
)

const (
	// saltName is the file of the salt, in the data folder or the user's own.
	saltName = "secrets.salt"
	// saltVariable gives the salt where several machines shall print alike.
	saltVariable = "CASTELLAN_SECRET_SALT"
	saltSize     = 32
	// leastSalt is what a salt that somebody gives must have: a short one can be
	// tried out.
	leastSalt = 16
)

// openSecrets returns what looks for secrets, with the salt of this installation.
func (g *globals) openSecrets(o scanOptions) (*scan.Secrets, error) {
	salt, err := g.secretSalt(o.secretSalt)
	if err != nil {
		return nil, err
	}
	return scan.NewSecrets(salt)
}

// redact takes the values of secrets out of what is shown of an image, also where
// nobody asked to be told of them: what does it then prints nothing, and needs no
// salt. It is made for images alone, because making it takes longer than most of
// what else is read.
func (s *scanning) redact(i *inventory.Image) (*inventory.Image, error) {
	if i == nil {
		return nil, nil //nolint:nilnil // of what is no image nothing is shown
	}
	if s.secrets == nil && s.redactor == nil {
		var err error
		if s.redactor, err = scan.NewSecrets(nil); err != nil {
			return nil, err
		}
	}
	return scan.Redact(cmp.Or(s.secrets, s.redactor), i), nil
}

// secretSalt reads the salt, or makes one. Where nothing can be kept, it is of this
// run alone, and that is said.
func (g *globals) secretSalt(file string) ([]byte, error) {
	if v := os.Getenv(saltVariable); v != "" && file == "" {
		return checkedSalt(v, saltVariable)
	}
	if file != "" {
		b, err := readAtMost(file, maxPolicyBytes)
		if err != nil {
			return nil, fmt.Errorf("read salt: %w", err)
		}
		return checkedSalt(strings.TrimSpace(string(b)), file)
	}
	var tried []error
	for _, folder := range g.saltFolders() {
		salt, err := keptSalt(filepath.Join(folder, saltName))
		if err == nil {
			return checkedSalt(salt, filepath.Join(folder, saltName))
		}
		tried = append(tried, err)
	}
	fmt.Fprintf(g.err, "%s\n", g.paint("fingerprints of secrets are of this run alone, no salt could be kept: "+printable(errors.Join(tried...).Error()), warn))
	return []byte(rand.Text()), nil
}

// serverSalt is the salt of a server's installation: that of its data folder, made
// at its first start, unless the environment has another one.
func serverSalt(dataDir string) ([]byte, error) {
	if v := os.Getenv(saltVariable); v != "" {
		return checkedSalt(v, saltVariable)
	}
	file := filepath.Join(dataDir, saltName)
	salt, err := keptSalt(file)
	if err != nil {
		return nil, fmt.Errorf("keep the salt of secrets: %w", err)
	}
	return checkedSalt(salt, file)
}

// saltFolders are where the salt may be: the data folder, if it is there, else the
// user's own.
func (g *globals) saltFolders() []string {
	var folders []string
	if info, err := os.Stat(g.dataDir); err == nil && info.IsDir() {
		folders = append(folders, g.dataDir)
	}
	if dir, err := os.UserConfigDir(); err == nil {
		folders = append(folders, filepath.Join(dir, "castellan"))
	}
	return folders
}

func checkedSalt(s, from string) ([]byte, error) {
	if len(s) < leastSalt {
		return nil, fault.New(fault.Invalid, "the salt in %s has %d bytes, want at least %d", from, len(s), leastSalt).
			With("openssl rand -hex 32 makes one")
	}
	return []byte(s), nil
}

// keptSalt reads a salt, or makes it; of two that make it at once one wins.
func keptSalt(file string) (string, error) {
	b, err := readAtMost(file, maxPolicyBytes)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	random := make([]byte, saltSize)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", err
	}
	salt := hex.EncodeToString(random)
	f, err := os.CreateTemp(filepath.Dir(file), ".salt-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(salt + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), file)
	}
	err = errors.Join(err, os.Remove(f.Name()))
	if errors.Is(err, fs.ErrExist) {
		b, err := readAtMost(file, maxPolicyBytes)
		return strings.TrimSpace(string(b)), err
	}
	return salt, err
}

// baseline is what an earlier report knew.
type baseline struct {
	file  string
	known map[string]bool // fingerprints
	// ending are the fingerprints of what was accepted for a time that is not over.
	ending map[string]time.Time
	salt   string // that of its secrets
}

// readBaseline reads a report in JSON; nil without a file.
func readBaseline(file string, now time.Time) (*baseline, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // no baseline is none
	}
	former, err := readFormer("--baseline", file)
	if err != nil {
		return nil, err
	}
	b := &baseline{file: filepath.Base(file), known: map[string]bool{}, ending: map[string]time.Time{}, salt: former.salt}
	for fingerprint, until := range former.fingerprints {
		switch {
		case until.IsZero():
			b.known[fingerprint] = true
		case until.After(now):
			b.ending[fingerprint] = until
		}
	}
	return b, nil
}

// rules accept, for as long as it was accepted, what the baseline does not know for
// good.
func (b *baseline) rules() (rules []scan.Rule) {
	if b == nil {
		return nil
	}
	for _, fingerprint := range slices.Sorted(maps.Keys(b.ending)) {
		a := b.acceptance(fingerprint)
		rules = append(rules, scan.Rule{ID: fingerprint, Reason: a.Reason, By: a.By, Expires: a.Expires})
	}
	return rules
}

// accept marks the vulnerabilities that the baseline knows.
func (b *baseline) accept(vs []finding.Vulnerability) {
	if b == nil {
		return
	}
	for i := range vs {
		if v := &vs[i]; v.Accepted == nil {
			v.Accepted = b.acceptance(v.Fingerprint)
		}
	}
}

// acceptFaults marks the faults that the baseline knows.
func (b *baseline) acceptFaults(faults []finding.Misconfiguration) {
	if b == nil {
		return
	}
	for i := range faults {
		if m := &faults[i]; m.Accepted == nil {
			m.Accepted = b.acceptance(m.Fingerprint)
		}
	}
}

// acceptance is that of a finding; nil if the baseline does not know it.
func (b *baseline) acceptance(fingerprint string) *finding.Acceptance {
	until, ends := b.ending[fingerprint]
	if !ends && !b.known[fingerprint] {
		return nil
	}
	return &finding.Acceptance{Reason: "known before: it is in the baseline", By: b.file, Expires: until}
}

// addSecrets adds the secrets of an inventory to its report.
func (s *scanning) addSecrets(r *scan.Report) {
	if s.secrets == nil || r.Inventory.Subject.Kind == inventory.KindSBOM {
		return
	}
	r.SaltID = s.secrets.SaltID()
	var known map[string]bool
	if s.baseline != nil {
		known = s.baseline.known
		s.tellOtherSalt(s.baseline.salt, r.SaltID)
	}
	var expired []scan.Rule
	r.Secrets, expired = scan.JudgeSecrets(&r.Inventory, append(slices.Clip(s.policy.rules), s.baseline.rules()...), known, time.Now())
	if s.db == nil { // else they are told with those for vulnerabilities
		s.tellExpired(expired)
	}
}

// tellOtherSalt says, once, that secrets of a former report cannot be known again.
func (s *scanning) tellOtherSalt(before, now string) {
	if before == "" || before == now || s.saltTold {
		return
	}
	s.saltTold = true
	fmt.Fprintf(s.err, "%s\n", s.paint("the earlier report was made with another salt: its secrets are not known again (--secret-salt, "+saltVariable+")", warn))
}
