package sigstore

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// trustedKey is a key of the roots.
type trustedKey struct {
	signature.Key
	id   string // "sha256:HEX"
	spki []byte
}

func newTrustedKey(k signature.Key) (trustedKey, error) {
	if err := allowed(k.Public); err != nil {
		return trustedKey{}, err
	}
	id, spki, err := fingerprint(k.Public)
	return trustedKey{Key: k, id: id, spki: spki}, err
}

// hinted reports whether a bundle's hint is this key: cosign writes the
// fingerprint in base64, others in hexadecimal.
func (k trustedKey) hinted(hint string) bool {
	hexed := strings.TrimPrefix(k.id, "sha256:")
	if strings.EqualFold(hint, hexed) || strings.EqualFold(hint, k.id) {
		return true
	}
	b, err := base64.StdEncoding.DecodeString(hint)
	return err == nil && hex.EncodeToString(b) == hexed
}

// openKeyed opens what was signed with a key of the roots. The hint only says
// which to try first, for anybody can write one.
func (o *Opener) openKeyed(m *material, at time.Time, s *signature.Signed) error {
	k, err := o.keyOf(m)
	if err != nil {
		return err
	}
	s.Identity = signature.Identity{Key: k.id}
	found, err := m.checkEntries(o.logs, signerKey{public: k.Public, spki: k.spki})
	if err != nil {
		return err
	}
	stamped, _, err := m.checkStamps(o.stamps)
	if err != nil {
		return err
	}
	t := prove(stamped, found)
	if err := t.plausible(at); err != nil {
		return err
	}
	if len(t.all) > 0 {
		if err := logsInUse(found, t); err != nil {
			return err
		}
	}
	// The same key may stand in the roots more than once; the strictest counts.
	for _, each := range o.keys {
		if each.id != k.id {
			continue
		}
		until, err := each.inTime(t, at)
		if err != nil {
			return err
		}
		s.Until = earlier(s.Until, until)
	}
	s.At, s.Proof = t.at, t.proof
	if len(found) > 0 {
		s.Log = &found[0].entry
	}
	return nil
}

// keyOf finds the key that made the signature.
func (o *Opener) keyOf(m *material) (trustedKey, error) {
	var other error
	tried := map[string]bool{}
	try := func(k trustedKey) bool {
		if tried[k.id] || len(tried) == maxTried {
			return false
		}
		tried[k.id] = true
		ok, err := m.verify(k.Public)
		if err != nil {
			other = err
		}
		return ok
	}
	hinted := ""
	for _, first := range []bool{true, false} {
		for _, k := range o.keys {
			if first && (m.hint == "" || !k.hinted(m.hint)) {
				continue
			}
			if first {
				hinted = k.Name
			}
			if try(k) {
				return k, nil
			}
		}
	}
	switch {
	case hinted != "" && other == nil:
		return trustedKey{}, signature.Refuse(signature.Forged, "the envelope says that key %q made it, but the signature is not that key's: what was signed, or the signature, was changed", hinted)
	case other != nil:
		return trustedKey{}, other
	}
	r := signature.Refuse(signature.NoRoot, "none of the %d trusted keys made the signature, or what was signed was changed", len(o.keys))
	r.Remedy = "if this signer is to be trusted, add its public key"
	return trustedKey{}, r
}

// inTime holds the time of signing against the key's own times. An unproven
// time is somewhere before now, which is enough until the key's time is over.
func (k trustedKey) inTime(t timing, at time.Time) (until time.Time, err error) {
	proven := len(t.all) > 0
	if !k.NotBefore.IsZero() {
		switch {
		case proven && t.at.Before(k.NotBefore):
			return until, signature.Refuse(signature.NotYet, "it was signed at %s; signatures of key %q count from %s on", stamp(t.at), k.Name, stamp(k.NotBefore))
		case !proven && at.Before(k.NotBefore):
			return until, signature.Refuse(signature.NotYet, "signatures of key %q count from %s on", k.Name, stamp(k.NotBefore))
		}
	}
	for _, limit := range []struct {
		at     time.Time
		reason signature.Reason
		what   string
	}{
		{k.Lost, signature.Revoked, "was lost on"},
		{k.NotAfter, signature.Expired, "counts no longer from"},
	} {
		if limit.at.IsZero() {
			continue
		}
		if proven {
			if !t.at.Before(limit.at) {
				return until, signature.Refuse(limit.reason, "it was signed at %s, and key %q %s %s", stamp(t.at), k.Name, limit.what, stamp(limit.at))
			}
			continue
		}
		if !at.Before(limit.at) {
			r := signature.Refuse(signature.NoTime, "key %q %s %s, and nothing trusted says that it was signed before", k.Name, limit.what, stamp(limit.at))
			r.Remedy = "sign anew with a key that counts, or with a log or a time-stamping authority"
			return until, r
		}
		until = earlier(until, limit.at)
	}
	return until, nil
}
