package sigstore

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// openCertified opens what was signed with a certificate. Every trusted root is
// asked by itself: one that vouches for the certificate must also bring the
// log and the time that it has.
func (o *Opener) openCertified(m *material, at time.Time, s *signature.Signed) error {
	c, err := readChain(m.chain)
	if err != nil {
		return err
	}
	if err := c.identify(s); err != nil {
		return err
	}
	ok, err := m.verify(c.leaf.PublicKey)
	if err != nil {
		return err
	}
	if !ok {
		return signature.Refuse(signature.Forged, "the signature is not that of its certificate: what was signed, or the signature, was changed")
	}
	var first error
	for _, r := range o.realms {
		trust, vouches := r.vouch(c)
		if !vouches {
			continue
		}
		err := o.openIn(r, trust, c, m, at, s)
		if err == nil {
			return o.keyLost(s, at)
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	refusal := signature.Refuse(signature.NoRoot, "no trusted root vouches for the certificate of %q, issued by %q", clip(c.display()), clip(c.leaf.Issuer.String()))
	refusal.Remedy = "if this signer is to be trusted, add the trusted root or the certificate of its authority"
	return refusal
}

// keyLost refuses a certificate over a key that the roots know as lost: who has
// it since can use both.
func (o *Opener) keyLost(s *signature.Signed, at time.Time) error {
	var t timing
	if s.Proof != signature.Unproven {
		t.all, t.at = []time.Time{s.At}, s.At
	}
	for _, k := range o.keys {
		if k.id != s.Identity.Key {
			continue
		}
		k.NotBefore, k.NotAfter = time.Time{}, time.Time{} // of the key alone
		until, err := k.inTime(t, at)
		if err != nil {
			return err
		}
		s.Until = earlier(s.Until, until)
	}
	return nil
}

// certificates are the signer's and what stands above it, as the envelope has them.
type certificates struct {
	leaf  *x509.Certificate
	above *x509.CertPool
	holder
}

// readChain parses the certificates of an envelope.
func readChain(ders [][]byte) (*certificates, error) {
	c := &certificates{above: x509.NewCertPool()}
	for i, der := range ders {
		if len(der) > maxCertificate {
			return nil, signature.Refuse(signature.TooLarge, "a certificate has %d bytes, more than %d", len(der), maxCertificate)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, signature.Refuse(signature.Malformed, "the %s certificate can't be read: %v", ordinal(i), err)
		}
		if err := allowed(parsed.PublicKey); err != nil {
			return nil, err
		}
		if i == 0 {
			c.leaf = parsed
			if parsed.IsCA || parsed.KeyUsage != 0 && parsed.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
				return nil, signature.Refuse(signature.Forbidden, "the signer's certificate is not for signatures: it is an authority's, or its key usage says so")
			}
			continue
		}
		c.above.AddCert(parsed)
	}
	return c, c.read()
}

// vouched is an authority with the chain by which it vouches.
type vouched struct {
	authority *authority
	chain     []*x509.Certificate
}

// vouch finds the authorities of a realm that have issued the certificate,
// whenever that was.
func (r *realm) vouch(c *certificates) ([]vouched, bool) {
	if r.plain && c.issuer != "" {
		return nil, false
	}
	var all []vouched
	for _, a := range r.authorities {
		chain, err := a.verify(c, c.leaf.NotBefore)
		// A certificate above that began later, or ended earlier, than the leaf is
		// told by its own reason later.
		var invalid x509.CertificateInvalidError
		if err == nil || errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			all = append(all, vouched{a, chain})
		}
	}
	return all, len(all) > 0
}

// verify makes the chain from the leaf to the authority's root, valid at a time.
func (a *authority) verify(c *certificates, at time.Time) ([]*x509.Certificate, error) {
	between := c.above
	if len(a.intermediates) > 0 {
		between = between.Clone()
		for _, i := range a.intermediates {
			between.AddCert(i)
		}
	}
	chains, err := c.plain.Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return nil, err
	}
	return chains[0], nil
}

// openIn checks the log, the time and the chain in one realm.
func (o *Opener) openIn(r *realm, trust []vouched, c *certificates, m *material, at time.Time, s *signature.Signed) error {
	found, err := m.checkEntries(r.logs, c.signer())
	if err != nil {
		return err
	}
	if err := o.enoughLogs(r, found); err != nil {
		return err
	}
	stamped, unknown, err := m.checkStamps(r.stamps)
	if err != nil {
		return err
	}
	t := prove(stamped, found)
	if err := t.plausible(at); err != nil {
		return err
	}
	if len(t.all) == 0 {
		if c.issuer != "" {
			return noTime(unknown)
		}
		t.all = []time.Time{at} // a certificate that is valid now signed while it was
	}
	if err := logsInUse(found, t); err != nil {
		return err
	}
	chain, a, err := chainAt(trust, c, t.all)
	if err != nil {
		return err
	}
	if len(r.certLogs) > 0 {
		if len(chain) < 2 {
			return signature.Refuse(signature.NoRoot, "the certificate is its own root")
		}
		if err := checkPromises(c.leaf, chain[1], r.certLogs); err != nil {
			return err
		}
	}
	until, state, err := o.revoked(chain, at)
	if err != nil {
		return err
	}
	s.Identity.Store, s.Identity.Root = a.store, hashName(a.root.Raw)
	s.At, s.Proof, s.Revocation = t.at, t.proof, state
	if t.proof == signature.Unproven {
		for _, each := range chain {
			until = earlier(until, each.NotAfter)
		}
	}
	s.Until = until
	if len(found) > 0 {
		s.Log = &found[0].entry
	}
	return nil
}

func noTime(unknown string) error {
	r := signature.Refuse(signature.NoTime, "nothing trusted says when it was signed, and its certificate was valid for minutes only")
	if unknown != "" {
		r.Detail += ": " + unknown
	}
	r.Remedy = "sign with a log that gives the time (Rekor v1) or with a time-stamping authority that the trusted root has"
	return r
}

// enoughLogs counts logs, not entries: one log twice is one log, and so is one key
// under two ids.
func (o *Opener) enoughLogs(r *realm, found []logged) error {
	if len(r.logs) == 0 {
		return nil
	}
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.log.name] = true
	}
	if len(seen) < o.want {
		return signature.Refuse(signature.NoLog, "%d known logs hold the signature, want %d: its trusted root has logs", len(seen), o.want)
	}
	return nil
}

// timing is what proves when something was signed.
type timing struct {
	all   []time.Time
	at    time.Time // the earliest
	proof signature.Proof
}

// prove takes the times of authorities, and of logs that have promised: the
// earliest counts, for each says only that the signature was there by then.
func prove(stamped []time.Time, found []logged) timing {
	var t timing
	add := func(at time.Time, p signature.Proof) {
		t.all = append(t.all, at)
		if t.at.IsZero() || at.Before(t.at) {
			t.at, t.proof = at, p
		}
	}
	for _, at := range stamped {
		add(at.UTC(), signature.Timestamped)
	}
	for _, f := range found {
		if !f.entry.At.IsZero() {
			add(f.entry.At, signature.Logged)
		}
	}
	return t
}

// plausible refuses times that are yet to come.
func (t timing) plausible(at time.Time) error {
	for _, each := range t.all {
		if each.After(at.Add(skew)) {
			r := signature.Refuse(signature.NotYet, "it was signed at %s, which is later than %s", stamp(each), stamp(at))
			r.Remedy = "check the clock of this machine"
			return r
		}
	}
	return nil
}

// logsInUse holds entries without a promise, which say no time, to the time
// that others prove.
func logsInUse(found []logged, t timing) error {
	for _, f := range found {
		if f.entry.At.IsZero() && !f.log.between.holds(t.all[0]) {
			return signature.Refuse(signature.NoLog, "the log's key was not in use at %s, when it was signed", stamp(t.all[0]))
		}
	}
	return nil
}

// chainAt finds the authority whose chain holds at all proven times.
func chainAt(trust []vouched, c *certificates, times []time.Time) ([]*x509.Certificate, *authority, error) {
	for _, at := range times {
		if at.Before(c.leaf.NotBefore) {
			return nil, nil, signature.Refuse(signature.NotYet, "it was signed at %s, before its certificate began at %s", stamp(at), stamp(c.leaf.NotBefore))
		}
		if at.After(c.leaf.NotAfter) {
			return nil, nil, signature.Refuse(signature.Expired, "it was signed, as far as is proven, at %s, after its certificate ended at %s", stamp(at), stamp(c.leaf.NotAfter))
		}
	}
	var first error
	for _, v := range trust {
		chain, err := v.holdsAt(c, times)
		if err == nil {
			return chain, v.authority, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}

func (v vouched) holdsAt(c *certificates, times []time.Time) (chain []*x509.Certificate, err error) {
	for _, at := range times {
		if w := v.authority.between; !w.holds(at) {
			reason := signature.Expired
			if at.Before(w.start) {
				reason = signature.NotYet
			}
			return nil, signature.Refuse(reason, "the authority of its certificate was not trusted at %s, when it was signed", stamp(at))
		}
		if chain, err = v.authority.verify(c, at); err != nil {
			return nil, signature.Refuse(signature.Expired, "the chain of its certificate was not valid at %s, when it was signed: %v", stamp(at), err)
		}
	}
	return chain, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// earlier takes the earlier of two times of which a zero one is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
