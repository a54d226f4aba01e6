package notary

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// maxList bounds a revocation list. The longest public ones have some 10 MiB.
const maxList = 32 << 20

var oidInvalidSince = asn1.ObjectIdentifier{2, 5, 29, 24}

// The reasons of RFC 5280, 5.3.1, that do not mean for ever.
const (
	reasonHold   = 6
	reasonRemove = 8
)

// list is a revocation list. Whether its issuer made it is checked when there is
// an issuer.
type list struct {
	crl     *x509.RevocationList
	order   []int // of the entries, by serial number
	scope   signature.ListScope
	issuers sync.Map // digest of a certificate: whether it made the list
}

// readLists reads revocation lists.
func readLists(ders [][]byte) ([]*list, error) {
	var lists []*list
	for i, der := range ders {
		if len(der) > maxList {
			return nil, fmt.Errorf("read revocation list %d: %d bytes, at most %d are read", i+1, len(der), maxList)
		}
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("read revocation list %d: %w", i+1, err)
		}
		l := &list{crl: crl, order: make([]int, len(crl.RevokedCertificateEntries)), scope: signature.ScopeOf(crl)}
		for n := range l.order {
			l.order[n] = n
		}
		slices.SortStableFunc(l.order, func(a, b int) int { return l.serial(a).Cmp(l.serial(b)) })
		lists = append(lists, l)
	}
	// The newest first: what it says of a certificate on hold counts.
	slices.SortStableFunc(lists, func(a, b *list) int {
		return cmp.Or(b.crl.ThisUpdate.Compare(a.crl.ThisUpdate), compareNumbers(b.crl.Number, a.crl.Number))
	})
	return lists, nil
}

func compareNumbers(a, b *big.Int) int {
	if a == nil || b == nil {
		return 0
	}
	return a.Cmp(b)
}

func (l *list) serial(n int) *big.Int { return l.crl.RevokedCertificateEntries[n].SerialNumber }

// madeBy says whether a certificate's key made the list.
func (l *list) madeBy(issuer *x509.Certificate) bool {
	if !bytes.Equal(l.crl.RawIssuer, issuer.RawSubject) {
		return false
	}
	key := digest(issuer.Raw)
	if made, known := l.issuers.Load(key); known {
		return made.(bool)
	}
	made := !isWeak(l.crl.SignatureAlgorithm) && l.crl.CheckSignatureFrom(issuer) == nil
	l.issuers.Store(key, made)
	return made
}

// entries returns what the list has about a serial number.
func (l *list) entries(serial *big.Int) []x509.RevocationListEntry {
	at, found := slices.BinarySearchFunc(l.order, serial, func(n int, want *big.Int) int { return l.serial(n).Cmp(want) })
	if !found {
		return nil
	}
	var es []x509.RevocationListEntry
	for ; at < len(l.order) && l.serial(l.order[at]).Cmp(serial) == 0; at++ {
		es = append(es, l.crl.RevokedCertificateEntries[l.order[at]])
	}
	return es
}

// standing is what is known of the revocation of a chain.
type standing struct {
	state signature.Revocation
	until time.Time // when the state must be looked up again; zero: never
}

// and is the worse of two standings.
func (s standing) and(t standing) standing {
	rank := []signature.Revocation{signature.NoRevocation, signature.NotRevoked, signature.RevocationStale, signature.RevocationSilent}
	out := s
	if slices.Index(rank, t.state) > slices.Index(rank, s.state) {
		out.state = t.state
	}
	out.until = earlier(s.until, t.until)
	return out
}

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// revocation looks a verified chain up in the lists. proven is the latest moment at
// which, as a trusted party says, the signature was made; zero if none says.
func revocation(lists []*list, chain []*x509.Certificate, proven, at time.Time) (standing, error) {
	var all standing
	for i := len(chain) - 2; i >= 0; i-- { // roots are revoked by taking them out of the store
		one, err := lookUp(lists, chain[i], chain[i+1], proven, at)
		if err != nil {
			return standing{}, err
		}
		all = all.and(one)
	}
	return all, nil
}

func lookUp(lists []*list, cert, issuer *x509.Certificate, proven, at time.Time) (standing, error) {
	var (
		found standing
		asked bool // whether a list that tells of all was there already
	)
	if len(cert.CRLDistributionPoints) > 0 || len(cert.OCSPServer) > 0 {
		found.state = signature.RevocationSilent
	}
	for _, l := range lists {
		if !l.madeBy(issuer) {
			continue
		}
		whole := l.scope.Covers(cert)
		for _, e := range l.entries(cert.SerialNumber) {
			if e.ReasonCode == reasonRemove || e.ReasonCode == reasonHold && asked {
				continue
			}
			if since, ok := invalidSince(e); ok && !proven.IsZero() && proven.Before(since) {
				continue
			}
			return standing{}, signature.Refuse(signature.Revoked, "the certificate of %s was revoked on %s%s", named(cert), stamp(e.RevocationTime), because(e.ReasonCode))
		}
		if !whole {
			continue
		}
		asked = true
		switch next := l.crl.NextUpdate; {
		case l.crl.ThisUpdate.After(at.Add(skew)): // not yet
		case !next.IsZero() && !at.After(next):
			if found.state != signature.NotRevoked || next.After(found.until) {
				found = standing{signature.NotRevoked, next}
			}
		case found.state != signature.NotRevoked:
			found.state = signature.RevocationStale
		}
	}
	return found, nil
}

// invalidSince is since when the key may have been somebody else's, if the list
// says so (RFC 5280, 5.3.2).
func invalidSince(e x509.RevocationListEntry) (time.Time, bool) {
	for _, x := range e.Extensions {
		if x.Id.Equal(oidInvalidSince) {
			var t time.Time
			rest, err := asn1.UnmarshalWithParams(x.Value, &t, "generalized")
			return t, err == nil && len(rest) == 0
		}
	}
	return time.Time{}, false
}

func because(reason int) string {
	names := []string{"", "its key was compromised", "its authority was compromised", "its holder changed", "it was replaced", "it is used no longer", "it is on hold", "", "", "its rights were withdrawn", "its authority was compromised"}
	if reason < 0 || reason >= len(names) || names[reason] == "" {
		return ""
	}
	return ": " + strings.TrimSpace(names[reason])
}
