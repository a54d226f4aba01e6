package sigstore

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// revocationList is a list that the roots brought. It counts only for certificates
// of the authority that has signed it.
type revocationList struct {
	*x509.RevocationList
	scope   signature.ListScope
	serials map[string]struct{}
}

func readRevocationList(der []byte) (*revocationList, error) {
	if len(der) > maxList {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(der), maxList)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	r := &revocationList{l, signature.ScopeOf(l), make(map[string]struct{}, len(l.RevokedCertificateEntries))}
	for _, e := range l.RevokedCertificateEntries {
		r.serials[e.SerialNumber.String()] = struct{}{}
	}
	return r, nil
}

// revoked holds a chain against the lists. Certificates that live for minutes
// have none; for others a list that is silent or too old is told, not refused.
func (o *Opener) revoked(chain []*x509.Certificate, at time.Time) (until time.Time, state signature.Revocation, err error) {
	for i, c := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		best := signature.RevocationSilent
		if len(c.CRLDistributionPoints) == 0 && len(c.OCSPServer) == 0 {
			best = signature.NoRevocation
		}
		for _, l := range o.lists {
			if !bytes.Equal(l.RawIssuer, c.RawIssuer) || l.CheckSignatureFrom(issuer) != nil {
				continue
			}
			if _, is := l.serials[c.SerialNumber.String()]; is {
				return until, "", signature.Refuse(signature.Revoked, "the certificate of %q was revoked by its authority", clip(c.Subject.String()))
			}
			if !l.scope.Covers(c) || l.ThisUpdate.After(at.Add(skew)) {
				continue // it would not have it, or is yet to come
			}
			if fresh := l.NextUpdate.IsZero() || at.Before(l.NextUpdate); fresh {
				best = signature.NotRevoked
				until = earlier(until, l.NextUpdate)
			} else if best != signature.NotRevoked {
				best = signature.RevocationStale
			}
		}
		state = worse(state, best, i == 0)
	}
	return until, state, nil
}

// worse keeps what is least known of a chain.
func worse(a, b signature.Revocation, first bool) signature.Revocation {
	rank := map[signature.Revocation]int{signature.NoRevocation: 0, signature.NotRevoked: 1, signature.RevocationStale: 2, signature.RevocationSilent: 3}
	if first || rank[b] > rank[a] {
		return b
	}
	return a
}
