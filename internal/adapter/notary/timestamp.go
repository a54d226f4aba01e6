package notary

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/notaryproject/tspclient-go"

	"github.com/castellan-security/castellan/internal/signature"
)

// maxAccuracy is how inexact a time-stamp may say that it is. Authorities say a
// second or less.
const maxAccuracy = 24 * time.Hour

// maxTokenCerts bounds the certificates within a time-stamp.
const maxTokenCerts = 16

// errUnknownTSA means that no trusted authority made the time-stamp.
var errUnknownTSA = errors.New("no trusted authority made the time-stamp")

// stamped is what a time-stamp proves: that what it is over was there at that time.
type stamped struct {
	at               time.Time
	earliest, latest time.Time // with the authority's accuracy
	chain            []*x509.Certificate
}

// readToken checks an RFC 3161 token over a signature. It returns errUnknownTSA if
// the token may be true, and no root vouches for it; a token that is false is
// refused whoever made it.
func readToken(ctx context.Context, token, value []byte, roots *x509.CertPool, chains *checked) (stamped, error) {
	if len(token) > maxToken {
		return stamped{}, signature.Refuse(signature.TooLarge, "the time-stamp has %d bytes, at most %d are read", len(token), maxToken)
	}
	signed, err := tspclient.ParseSignedToken(token)
	if err != nil {
		return stamped{}, malformed("time-stamp", err)
	}
	if len(signed.SignerInfos) != 1 || len(signed.Certificates) > maxTokenCerts {
		return stamped{}, signature.Refuse(signature.Malformed, "the time-stamp has %d signatures and %d certificates, want one signature and at most %d certificates",
			len(signed.SignerInfos), len(signed.Certificates), maxTokenCerts)
	}
	for _, c := range signed.Certificates {
		if err := checkKey(c, false); err != nil {
			return stamped{}, err
		}
	}
	s, err := readInfo(signed, value)
	if err != nil {
		return stamped{}, err
	}
	if roots == nil {
		return stamped{}, errUnknownTSA
	}
	s.chain, err = signed.Verify(ctx, x509.VerifyOptions{Roots: roots, CurrentTime: s.at})
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return stamped{}, errUnknownTSA
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return stamped{}, signature.Refuse(signature.Expired, "the time-stamp's authority was not valid when it made the time-stamp, on %s", stamp(s.at))
	case err != nil:
		return stamped{}, signature.Refuse(signature.Forged, "the time-stamp is not true: %s", shown(err.Error()))
	}
	if err := chains.verify(s.chain, stamping, true); err != nil {
		return stamped{}, err
	}
	return s, nil
}

// readInfo reads what the token says, and checks that it says it of the signature.
func readInfo(signed *tspclient.SignedToken, value []byte) (stamped, error) {
	info, err := signed.Info()
	if err != nil {
		return stamped{}, malformed("time-stamp", err)
	}
	for _, e := range info.Extensions {
		if e.Critical {
			return stamped{}, signature.Refuse(signature.Unsupported, "the time-stamp has a critical extension, %s, that is not known", e.Id)
		}
	}
	a := info.Accuracy
	if a.Seconds < 0 || a.Seconds > int(maxAccuracy/time.Second) || a.Milliseconds < 0 || a.Milliseconds > 999 || a.Microseconds < 0 || a.Microseconds > 999 {
		return stamped{}, signature.Refuse(signature.Malformed, "the time-stamp's accuracy is no accuracy")
	}
	t, err := info.Validate(value)
	if err != nil {
		return stamped{}, signature.Refuse(signature.Forged, "the time-stamp was made for another signature")
	}
	return stamped{at: t.Value.UTC(), earliest: t.Value.Add(-t.Accuracy), latest: t.Value.Add(t.Accuracy)}, nil
}
